use futures_util::FutureExt as _;

use super::*;

const GRACE: Duration = Duration::from_millis(50);

fn set(limit: usize) -> Arc<Evictable> {
    Arc::new(Evictable::new(limit, GRACE, Counter::default()))
}

#[allow(clippy::unnecessary_wraps, reason = "as a set takes it")]
fn from(last: u8) -> Option<IpAddr> {
    Some(IpAddr::from([10, 0, 0, last]))
}

fn is_evicted(ticket: &Ticket) -> bool {
    // Polling consumed the notification; it is restored below.
    let evicted = ticket.evicted().now_or_never().is_some();
    if evicted {
        ticket.eviction.notify_one();
    }
    evicted
}

fn evicted(tickets: &[Ticket]) -> Vec<usize> {
    tickets.iter().enumerate().filter(|(_, ticket)| is_evicted(ticket)).map(|(at, _)| at).collect()
}

#[tokio::test(start_paused = true)]
async fn the_oldest_goes_for_a_newcomer_and_not_the_newcomer() {
    let set = set(8);
    let mut tickets: Vec<Ticket> = (0..8).map(|_| set.admit(from(1)).0).collect();
    assert_eq!(evicted(&tickets), Vec::<usize>::new(), "one address may have all of it when there is no other");
    for _ in 0..3 {
        let (ticket, evicted) = set.admit(from(1));
        assert!(evicted);
        tickets.push(ticket);
    }
    assert_eq!(evicted(&tickets), [0, 1, 2]);
    assert_eq!(set.evicted.get(), 3);
    assert_eq!(set.lock().list.len(), 8);
}

#[tokio::test(start_paused = true)]
async fn one_address_has_a_quarter_while_there_are_others() {
    let set = set(16);
    let honest = set.admit(from(2)).0;
    let crowd: Vec<Ticket> = (0..4).map(|_| set.admit(from(1)).0).collect();
    tokio::time::advance(GRACE).await;
    let newcomer = set.admit(from(1)).0;
    assert_eq!(evicted(&crowd), [0]);
    assert!(!is_evicted(&honest) && !is_evicted(&newcomer));
    // Another address has a share of its own.
    assert!(!set.admit(from(3)).1);
}

#[tokio::test(start_paused = true)]
async fn a_crowd_that_was_there_first_makes_room_for_others() {
    let set = set(16);
    let honest = set.admit(from(2)).0;
    let crowd: Vec<Ticket> = (0..15).map(|_| set.admit(from(1)).0).collect();
    // The honest connection is the oldest of all, but not of the crowd.
    let other = set.admit(from(3)).0;
    assert_eq!(evicted(&crowd), [0]);
    assert!(!is_evicted(&honest) && !is_evicted(&other));
}

#[tokio::test(start_paused = true)]
async fn the_addresses_of_an_ipv6_network_count_as_one() {
    let set = set(16);
    let _other = set.admit(from(2)).0;
    let of_network = |last: u16| Some(IpAddr::from([0x2001, 0xdb8, 0, 1, last, last, last, last]));
    let crowd: Vec<Ticket> = (0..4).map(|last| set.admit(of_network(last)).0).collect();
    tokio::time::advance(GRACE).await;
    assert!(set.admit(of_network(9)).1);
    assert_eq!(evicted(&crowd), [0]);
    let mapped = IpAddr::from(std::net::Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().octets());
    assert_eq!(network(mapped), from(1).unwrap());
}

#[tokio::test(start_paused = true)]
async fn newcomers_wait_while_all_are_young_and_no_longer() {
    let set = set(2);
    let one = set.admit(from(1)).0;
    set.room().await;
    let _two = set.admit(from(1)).0;
    assert!(set.room().now_or_never().is_none(), "both are young");
    let started = Instant::now();
    set.room().await;
    assert!((GRACE..GRACE + Duration::from_millis(5)).contains(&started.elapsed()));
    assert!(set.room().now_or_never().is_some());
    let (three, evicted) = set.admit(from(1));
    assert!(evicted && is_evicted(&one));
    // A connection that leaves makes room at once.
    let _four = set.admit(from(1)).0;
    let (started, waits) = (Instant::now(), Arc::clone(&set));
    let waiting = tokio::spawn(async move { waits.room().await });
    tokio::task::yield_now().await;
    assert!(three.leave());
    waiting.await.unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn one_that_was_evicted_can_not_stay() {
    let set = set(4);
    let (one, two) = (set.admit(None).0, set.admit(None).0);
    assert!(set.evict_oldest());
    assert!(!one.leave(), "it was evicted first");
    assert!(two.leave());
    assert!(!set.evict_oldest(), "nobody is left");
    assert!(set.lock().list.is_empty());
}
