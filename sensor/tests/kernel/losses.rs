//! What does not fit into the ring is counted, to the last event.

use std::time::Duration;

use cairn_sensor::kernel::{Kind, Losses, Options};

use crate::harness::{watch, with_self};

/// Opens made without reading the ring: many times what a page holds.
const FLOOD: u64 = 20_000;

#[test]
fn a_flood_into_a_tiny_ring() {
    let Some(mut watch) = watch(Options { ring_len: 1, ..with_self() }) else { return };
    for _ in 0..FLOOD {
        std::fs::File::open("/dev/null").unwrap();
    }
    watch.kernel.stop().unwrap();
    let losses = drained(&mut watch);
    let opens = losses.families[Kind::Open as usize];
    assert!(opens.emitted >= FLOOD, "{losses:?}");
    assert!(opens.dropped > FLOOD / 2, "a page holds a few dozen: {losses:?}");
    assert_eq!(emitted(&losses), losses.received + dropped(&losses), "{losses:?}");
    assert_eq!((losses.malformed, losses.received), (0, watch.seen.len() as u64));
    assert!(losses.lost() >= dropped(&losses));
}

#[test]
fn a_flood_that_is_read() {
    let Some(mut watch) = watch(with_self()) else { return };
    let flood = std::thread::spawn(|| {
        for _ in 0..FLOOD {
            std::fs::File::open("/dev/null").unwrap();
        }
    });
    while !flood.is_finished() {
        let seen = &mut watch.seen;
        watch.kernel.poll(Duration::from_millis(10), |event| seen.push(event)).unwrap();
    }
    flood.join().unwrap();
    watch.kernel.stop().unwrap();
    let losses = drained(&mut watch);
    let opens = losses.families[Kind::Open as usize];
    assert!(opens.emitted >= FLOOD, "{losses:?}");
    assert_eq!(emitted(&losses), losses.received + dropped(&losses), "{losses:?}");
    assert_eq!(losses.malformed, 0);
}

/// Stopping twice is once, and nothing comes after.
#[test]
fn after_stopping_nothing_comes() {
    let Some(mut watch) = watch(with_self()) else { return };
    watch.kernel.stop().unwrap();
    watch.kernel.stop().unwrap();
    drained(&mut watch);
    let before = watch.seen.len();
    std::fs::File::open("/dev/null").unwrap();
    let taken = watch.kernel.poll(Duration::from_millis(20), |_| ()).unwrap();
    assert_eq!((taken, watch.seen.len()), (0, before));
}

/// Reads the stopped programs' ring until the counts agree. A program that was running on another CPU when they were
/// stopped may still put its event in; if the counts never agree, the last ones are returned for the test to refuse.
fn drained(watch: &mut crate::harness::Watch) -> Losses {
    let mut losses = watch.kernel.losses().expect("the counters can be read");
    for _ in 0..100 {
        let seen = &mut watch.seen;
        while watch.kernel.poll(Duration::from_millis(10), |event| seen.push(event)).expect("the ring can be read") > 0
        {
        }
        losses = watch.kernel.losses().expect("the counters can be read");
        if emitted(&losses) == losses.received + dropped(&losses) {
            break;
        }
    }
    losses
}

fn emitted(losses: &Losses) -> u64 {
    losses.families.iter().map(|family| family.emitted).sum()
}

fn dropped(losses: &Losses) -> u64 {
    losses.families.iter().map(|family| family.dropped).sum()
}
