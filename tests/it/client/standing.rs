//! Health and ranking of mirrors: pure decisions, at given times.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hfl::client::source::mirrors::{Fault, MirrorHealth, Pace, Ranking, State};

const SECOND: Duration = Duration::from_secs(1);

fn fail(standing: &mut MirrorHealth, at: Instant, fault: Fault) {
    standing.failed(at, at, fault, "why".into(), &Pace::default());
}

#[test]
fn quarantine_doubles_up_to_ten_minutes_and_one_good_block_ends_it() {
    let (mut standing, mut now) = (MirrorHealth::default(), Instant::now());
    standing.arrived(now, now, 1000);
    fail(&mut standing, now, Fault::Broken);
    assert_eq!(standing.until(), None, "once is forgiven");
    let mut terms = Vec::new();
    for _ in 0..7 {
        now += SECOND;
        fail(&mut standing, now, Fault::Broken);
        assert_eq!(standing.state(now), State::Quarantined);
        assert!(!standing.is_due(now, &Pace::default()), "left alone");
        let until = standing.until().unwrap();
        terms.push((until - now).as_secs());
        fail(&mut standing, now + SECOND, Fault::Broken);
        assert_eq!(standing.until(), Some(until), "what was asked in between does not count");
        now = until;
        assert!(standing.is_due(now, &Pace::default()), "and asked again");
    }
    assert_eq!(terms, [30, 60, 120, 240, 480, 600, 600]);
    standing.arrived(now, now + SECOND, 1000);
    assert_eq!(standing.state(now), State::Good);
    fail(&mut standing, now + SECOND * 2, Fault::Broken);
    fail(&mut standing, now + SECOND * 3, Fault::Broken);
    assert_eq!(standing.until(), Some(now + SECOND * 33), "from the beginning");
}

#[test]
fn many_failures_at_once_are_one() {
    let (mut standing, now) = (MirrorHealth::default(), Instant::now());
    standing.arrived(now, now, 1000);
    for ms in 1..20 {
        standing.failed(now, now + Duration::from_millis(ms), Fault::Broken, "reset".into(), &Pace::default());
    }
    assert_eq!((standing.until(), standing.failures), (None, 19));
}

#[test]
fn behind_is_not_down_and_busy_is_believed() {
    let (mut standing, now) = (MirrorHealth::default(), Instant::now());
    standing.arrived(now, now + SECOND, 1000);
    for _ in 0..5 {
        fail(&mut standing, now, Fault::Behind);
    }
    assert_eq!(standing.state(now), State::Behind);
    assert_eq!(standing.failures, 0);
    assert_eq!(standing.state(now + SECOND * 31), State::Good);
    let mut never_worked = MirrorHealth::default();
    fail(&mut never_worked, now, Fault::Broken);
    assert_eq!(never_worked.state(now), State::Quarantined);
    let mut busy = MirrorHealth::default();
    fail(&mut busy, now, Fault::Busy(SECOND * 7));
    assert_eq!(busy.until(), Some(now + SECOND * 7));
    let mut very_busy = MirrorHealth::default();
    fail(&mut very_busy, now, Fault::Busy(SECOND * 1_000_000));
    assert_eq!(very_busy.until(), Some(now + SECOND * 600));
}

#[test]
fn an_old_measurement_gives_way_to_a_new_one() {
    let (mut standing, now) = (MirrorHealth::default(), Instant::now());
    for i in 0..100 {
        standing.arrived(now + SECOND * i, now + SECOND * (i + 1), 1000);
    }
    let later = now + SECOND * 140;
    standing.arrived(later, later + SECOND / 20, 1000);
    println!("1 s for long, then 50 ms after a pause of 40 s: {:?}", standing.usual().unwrap());
    assert!(standing.usual().unwrap() < SECOND / 8);
    standing.was_overtaken(later, later + SECOND * 2);
    assert!(standing.usual().unwrap() > SECOND / 4, "{:?}", standing.usual());
}

#[test]
fn mirrors_that_are_near_share_the_work_and_the_others_follow() {
    let ranking = Ranking::new(["a", "b", "c"].map(Arc::from).to_vec(), Pace::default());
    assert_eq!(ranking.order(Instant::now()), [0, 1, 2], "as they were named");
    let seats = [0, 1, 2].map(|at| ranking.depart(at));
    let block = || {
        let (_, block) = hfl::format::block::Block::of(b"x".to_vec());
        Ok(hfl::repo::Fetched { block: Arc::new(block), file: None })
    };
    for (seat, ms) in seats.into_iter().zip([200, 1, 200]) {
        std::thread::sleep(Duration::from_millis(ms));
        seat.tell(&block());
    }
    // The response times are 200, 201 and 401 ms or slightly more.
    let firsts: Vec<usize> = (0..10).map(|_| ranking.order(Instant::now())[0]).collect();
    println!("asked first: {firsts:?}; {:?}", ranking.health().iter().map(MirrorHealth::usual).collect::<Vec<_>>());
    assert!(firsts.contains(&0) && firsts.contains(&1) && !firsts.contains(&2));
    assert!((0..10).all(|_| ranking.order(Instant::now())[2] == 2));
    let _busy = ranking.depart(0);
    assert!((0..10).all(|_| ranking.order(Instant::now())[0] == 1), "whoever has less to do");
}
