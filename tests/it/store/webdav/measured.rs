//! What concurrent readers and writers observe, and the speed of the servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use hfl::store::{Fetch, Put, Store};

use super::{apache_or_skip, nginx_or_skip, path};
use crate::support::lab::{Random, full};

/// Readers see the old head or the new one, and never none.
#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_is_seen_whole() {
    for server in [nginx_or_skip(), apache_or_skip()].into_iter().flatten() {
        let (store, head) = (Arc::new(server.store()), path("os.head"));
        store.put_replace(&head, Bytes::from(vec![b'0'; 9000])).await.unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let reader = tokio::spawn({
            let (store, head, done) = (Arc::clone(&store), head.clone(), Arc::clone(&done));
            async move {
                let mut reads = 0;
                while !done.load(Ordering::Relaxed) {
                    reads += 1;
                    match store.get(&head, 10_000).await {
                        Ok(body) => assert!(body.len() == 9000 && body.iter().all(|b| *b == body[0]), "torn"),
                        Err(e) => panic!("after {reads} reads: {e}"),
                    }
                }
                reads
            }
        });
        for i in 0..300_u16 {
            store.put_replace(&head, Bytes::from(vec![b'a' + (i % 26) as u8; 9000])).await.unwrap();
        }
        done.store(true, Ordering::Relaxed);
        let reads = reader.await.unwrap();
        println!("{}: 300 replacements, {reads} reads", server.url);
    }
}

/// Counts how often more than one of 16 writers at one path is told that it created the object.
#[tokio::test(flavor = "multi_thread")]
async fn races_are_counted() {
    for server in [nginx_or_skip(), apache_or_skip()].into_iter().flatten() {
        let store = Arc::new(server.store());
        let (mut rounds_with_more, rounds) = (0, if full() { 200 } else { 20 });
        for round in 0..rounds {
            let mut writers = tokio::task::JoinSet::new();
            for i in 0..16_u8 {
                let store = Arc::clone(&store);
                writers.spawn(async move {
                    store.put_new(&path(&format!("race/{round}")), Bytes::from(vec![i; 3000])).await.unwrap()
                });
            }
            let winners = writers.join_all().await.into_iter().filter(|put| *put == Put::Created).count();
            assert!(winners > 0);
            rounds_with_more += usize::from(winners > 1);
        }
        println!("{}: {rounds_with_more} of {rounds} races had more than one winner", server.url);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_objects() {
    let objects = if full() { 2000 } else { 200 };
    for server in [nginx_or_skip(), apache_or_skip()].into_iter().flatten() {
        let store = Arc::new(server.store());
        for at_once in [1, store.jobs()] {
            let started = Instant::now();
            let room = Arc::new(tokio::sync::Semaphore::new(at_once));
            let mut running = tokio::task::JoinSet::new();
            for i in 0..objects {
                let (store, room) = (Arc::clone(&store), Arc::clone(&room));
                running.spawn(async move {
                    let _room = room.acquire().await;
                    let body = Random(i).bytes(2000);
                    store.put_new(&path(&format!("{at_once}/{:02x}/{i}", i % 256)), body.into()).await.unwrap()
                });
            }
            running.join_all().await;
            println!("{}: {objects} objects, {at_once} at once: {:.2?}", server.url, started.elapsed());
        }
        let started = Instant::now();
        let listed = store.list("").await.unwrap().len();
        println!("{}: {listed} listed in {:.2?}", server.url, started.elapsed());
    }
}
