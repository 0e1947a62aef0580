//! Listing attached domains.

use std::fmt::Write as _;

use super::*;

async fn three_attached() -> Running {
    let cloud = running().await;
    let domains = json!([{ "domain": "www.example.com" }, { "domain": "api.example.com" }]);
    assert_eq!(cloud.attach(CERTIFICATE, domains).await.status, 204);
    cloud
}

#[tokio::test]
async fn a_row_has_every_required_field_of_a_domain_on_an_instance() {
    let cloud = running().await;
    assert_eq!(cloud.attach(WITH_CA, json!([{ "domain": "api.example.com" }])).await.status, 204);
    let answer = cloud.list(WITH_CA, "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.json(),
        json!({
            "size": 1,
            "total": 1,
            "bound_domains": [{
                "url_domain": "api.example.com",
                "id": "b05d8f2a6c714e93a7e4d1c9f8063b5e",
                "status": 3,
                "min_ssl_version": "TLSv1.1",
                "is_http_redirect_to_https": false,
                "verified_client_certificate_enabled": true,
                "ssl_id": WITH_CA,
                "ssl_name": "example_com_with_ca",
                "api_group_id": "92f4b6d08a3e4c71b5d9e0f7a1c8263d",
                "api_group_name": "storefront",
                "instance_id": FIRST,
            }],
        })
    );
}

#[tokio::test]
async fn the_dedicated_gateway_lists_the_ports_of_a_domain_too() {
    let cloud = running().await;
    assert_eq!(cloud.attach(WITH_CA, json!([{ "domain": "api.example.com" }])).await.status, 204);
    let path = format!("/v2/{PROJECT}/apigw/certificates/{WITH_CA}/attached-domains");
    let answer = send(cloud.request(Method::GET, &path).header("X-Auth-Token", OPERATOR)).await;
    let mut row = answer.json()["bound_domains"][0].take();
    let members = row.as_object_mut().unwrap();
    assert_eq!(members.remove("ingress_http_port"), Some(json!(80)));
    assert_eq!(members.remove("ingress_https_port"), Some(json!(443)));
    assert_eq!(row, cloud.list(WITH_CA, "").await.json()["bound_domains"][0], "the other members are the same");
}

#[tokio::test]
async fn the_default_page_has_20_rows_and_the_largest_500() {
    const DOMAINS: usize = 501;
    let name = |number: usize| format!("d{number}.example.com");
    let mut world = format!(
        r#"
        projects = [{{ id = "{PROJECT}", name = "p" }}]
        users = [{{ name = "u", password = "p", account = "a", projects = ["{PROJECT}"], may_attach = true }}]
        tokens = [{{ value = "{OPERATOR}", user = "u", project = "{PROJECT}" }}]
        instances = [{{ id = "{FIRST}", project = "{PROJECT}" }}]
        certificates = [{{ id = "{CERTIFICATE}", name = "c", project = "{PROJECT}", has_trusted_root_ca = false }}]
        "#
    );
    for number in 0..DOMAINS {
        let name = name(number);
        let _ = write!(
            world,
            "[[domains]]\nid = \"{number}\"\nname = \"{name}\"\nproject = \"{PROJECT}\"\n\
             group_id = \"g\"\ngroup_name = \"g\"\ninstances = [\"{FIRST}\"]\n"
        );
    }
    let cloud = running_in(World::from_toml(&world).unwrap()).await;
    let domains = (0..DOMAINS).map(|number| json!({ "domain": name(number) })).collect();
    assert_eq!(cloud.attach(CERTIFICATE, domains).await.status, 204);

    for (query, first, size) in [
        ("", 0, 20),
        ("?offset=490", 490, 11),
        ("?limit=500", 0, 500),
        ("?limit=501", 0, 500),
        ("?offset=500&limit=500", 500, 1),
    ] {
        let page = cloud.list(CERTIFICATE, query).await.json();
        assert_eq!((&page["size"], &page["total"]), (&json!(size), &json!(DOMAINS)), "{query}");
        let names: Vec<Value> = (first..first + size).map(|number| json!(name(number))).collect();
        let listed = page["bound_domains"].as_array().unwrap().iter().map(|row| row["url_domain"].clone());
        assert_eq!(listed.collect::<Vec<_>>(), names, "{query}");
    }
}

#[tokio::test]
async fn offset_and_limit_choose_a_page_and_total_counts_them_all() {
    let cloud = three_attached().await;
    let page = cloud.list(CERTIFICATE, "?offset=1&limit=1").await.json();
    assert_eq!((&page["size"], &page["total"]), (&json!(1), &json!(3)));
    assert_eq!(page["bound_domains"][0]["instance_id"], SECOND);
}

#[tokio::test]
async fn offset_and_limit_out_of_bounds_are_clamped() {
    let cloud = three_attached().await;
    for query in ["?offset=-1&limit=0", "?limit=-5", "?limit=1000"] {
        assert_eq!(cloud.list(CERTIFICATE, query).await.json()["size"], 3, "{query}");
    }
    assert_eq!(cloud.list(CERTIFICATE, "?offset=9").await.json()["bound_domains"], json!([]));
}

#[tokio::test]
async fn a_limit_that_is_no_number_is_refused() {
    let cloud = running().await;
    let answer = cloud.list(CERTIFICATE, "?limit=many").await;
    assert_eq!((answer.status, &answer.json()["error_code"]), (400, &json!("APIG.2000")));
}

#[tokio::test]
async fn a_part_of_the_name_filters_the_list() {
    let cloud = three_attached().await;
    let page = cloud.list(CERTIFICATE, "?url_domain=api.").await.json();
    assert_eq!((&page["total"], &page["bound_domains"][0]["url_domain"]), (&json!(1), &json!("api.example.com")));
}

#[tokio::test]
async fn a_certificate_that_does_not_exist_has_an_empty_list() {
    let cloud = running().await;
    let answer = cloud.list("0123456789abcdef0123456789abcdef", "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json(), json!({ "size": 0, "total": 0, "bound_domains": [] }));
}

#[tokio::test]
async fn a_user_without_permission_to_attach_may_list() {
    let cloud = three_attached().await;
    let path = format!("/v2/{PROJECT}/apigw/certificates/{CERTIFICATE}/attached-domains");
    let answer = send(cloud.request(Method::GET, &path).header("X-Auth-Token", AUDITOR)).await;
    assert_eq!((answer.status, &answer.json()["total"]), (200, &json!(3)));
}

#[tokio::test]
async fn the_list_requires_the_same_tokens_as_attaching() {
    let cloud = running().await;
    let get = |project: &str| {
        let path = format!("/v2/{project}/apic/certificates/{CERTIFICATE}/attached-domains");
        cloud.request(Method::GET, &path)
    };
    let missing = "Incorrect IAM authentication information: x-auth-token not found";
    send(get(PROJECT)).await.is_front(401, "APIG.0301", missing);
    let unknown = "Incorrect token or token resolution failed.";
    send(get(PROJECT).header("X-Auth-Token", "unknown")).await.is_service(401, "APIG.1002", unknown);
    let expired = "The token must be updated.";
    send(get(PROJECT).header("X-Auth-Token", "demo-expired-token")).await.is_front(401, "APIG.0307", expired);
    let forbidden = "No permissions to request this method";
    send(get(OTHER_PROJECT).header("X-Auth-Token", OPERATOR)).await.is_service(403, "APIG.1005", forbidden);
}
