//! Lists of several pages, and pages that do not make one list.

use super::*;

fn next(offset: usize) -> String {
    READ.replace("offset=0", &format!("offset={offset}"))
}

#[tokio::test]
async fn pages_are_read_until_the_total_however_short_they_are() {
    // The cloud may cap the limit. A list of several pages that confirms is read twice.
    let pages = [page(5, &["1.com", "2.com"]), page(5, &["3.com"]), page(5, &["4.com", "a.com"])];
    let script = [Reply::close()].into_iter().chain(pages.clone()).chain(pages);
    let cloud = Cloud::answering(script).await;
    let gateway = gateway(&cloud).start().await;
    let done = attach(&gateway, &[on_instance("a.com")], None).await.unwrap();
    assert_eq!(outcome(&done), Some("confirmed"));
    assert_eq!(lines(&cloud)[1..4], [READ.to_owned(), next(2), next(3)]);
    assert_eq!(lines(&cloud)[4..], lines(&cloud)[1..4]);
}

#[tokio::test]
async fn pages_that_make_no_list_confirm_nothing() {
    for (reason, pages) in [
        ("an empty page comes before the total", vec![page(2, &["1.com"]), page(2, &[])]),
        ("more rows than the total", vec![page(2, &["1.com"]), page(2, &["2.com", "3.com"])]),
        ("rows and no total", vec![page(0, &["1.com"])]),
        ("offsets are ignored", vec![page(4, &["1.com", "2.com"]), page(4, &["1.com", "2.com"])]),
    ] {
        let script = [Reply::close()].into_iter().chain(pages.clone());
        let cloud = Cloud::answering(script).await;
        let gateway = gateway(&cloud).start().await;
        let failure = failed(detach(&gateway, "a.com").await);
        assert_unconfirmed(&failure, "UPSTREAM_CONNECTION_LOST", None);
        assert_eq!(cloud.seen().len(), 1 + pages.len(), "{reason}");
        gateway.shows(r#"apig_gateway_read_backs_total{result="failed"} 1"#).await;
    }
}

#[tokio::test]
async fn a_list_that_grows_between_its_pages_is_read_again() {
    let script = [Reply::close(), page(2, &["1.com"]), page(3, &["2.com"]), list(&["1.com", "2.com", "a.com"])];
    let cloud = Cloud::answering(script).await;
    let gateway = gateway(&cloud).start().await;
    let done = attach(&gateway, &[on_instance("a.com")], None).await.unwrap();
    assert_eq!(outcome(&done), Some("confirmed"));
    assert_eq!(lines(&cloud)[1..], [READ.to_owned(), next(1), READ.to_owned()]);
}

#[tokio::test]
async fn a_row_that_moves_to_an_earlier_page_is_not_taken_for_gone() {
    // Between the pages another caller ends the binding of 1.com and binds 3.com: a.com moves to the first page.
    let script = [
        Reply::close(),
        page(3, &["1.com", "2.com"]),
        page(3, &["3.com"]),
        page(3, &["2.com", "a.com"]),
        page(3, &["3.com"]),
    ];
    let cloud = Cloud::answering(script).await;
    let gateway = gateway(&cloud).start().await;
    let failure = failed(detach(&gateway, "a.com").await);
    assert_unconfirmed(&failure, "UPSTREAM_CONNECTION_LOST", None);
}

#[tokio::test]
async fn a_list_of_500_on_a_page_is_found_in_full() {
    let names: Vec<String> = (0..1_200).map(|number| format!("{number}.com")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let pages: Vec<_> = names.chunks(500).map(|chunk| page(1_200, chunk)).collect();
    let script = [Reply::close()].into_iter().chain(pages.clone()).chain(pages);
    let cloud = Cloud::answering(script).await;
    let gateway = gateway(&cloud).start().await;
    let domains: Vec<_> = names.iter().map(|name| on_instance(name)).collect();
    let done = attach(&gateway, &domains, None).await.unwrap();
    assert_eq!(outcome(&done), Some("confirmed"));
    assert_eq!(lines(&cloud)[1..4], [READ.to_owned(), next(500), next(1_000)]);
}
