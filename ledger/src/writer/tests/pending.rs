//! Appends that are futures, with and without the writer's threads.

use std::pin::pin;
use std::task::Context;

use cairn_schemas::data::FleetObserved;
use cairn_schemas::record::Draft;
use cairn_schemas::time::Timestamp;

use super::faults::Run;
use super::*;
use crate::disk::faulty::FaultyDisk;
use crate::integrate::PUBLISH_RECORDS_MAX;

/// Counts how often it was called.
#[derive(Default)]
struct Count(AtomicUsize);

impl std::task::Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn counted() -> (Arc<Count>, Waker) {
    let count = Arc::new(Count::default());
    (count.clone(), Waker::from(count))
}

#[test]
fn an_append_is_a_future_and_so_is_its_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = create(folder.path());
    let mut sensors: Vec<Producer> = (0..4).map(|n| Producer::named(&format!("sensor-{n}"), 11 + n, n)).collect();
    join(&ledger, &mut sensors);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let tasks: Vec<_> = sensors
        .into_iter()
        .map(|mut sensor| {
            let ledger = ledger.clone();
            runtime.spawn(async move {
                for number in 0..100 {
                    let record = sensor.record(number);
                    let appended = ledger.submit(&sensor.stream(), [&*record].into_iter()).await.unwrap();
                    assert_eq!(*ledger.read(appended.index, 1).unwrap()[0], *record);
                    if number % 10 == 0 {
                        ledger.published(appended.size).await.unwrap();
                        assert!(ledger.checkpoint().size >= appended.size);
                    }
                }
                let old = ledger.submit(&sensor.stream(), std::iter::empty()).await;
                assert_eq!(old, Err(AppendError::Empty));
            })
        })
        .collect();
    for task in tasks {
        runtime.block_on(task).unwrap();
    }
    let never = ledger.published(TreeSize(1_000_000));
    ledger.close();
    assert!(matches!(runtime.block_on(never), Err(ReadError::Closed)));
    check(folder.path());
}

#[test]
fn a_repeat_that_memory_has_forgotten_is_looked_for_while_the_caller_waits() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = create(folder.path());
    let mut sensor = Producer::named("sensor-1", 11, 1);
    join(&ledger, std::slice::from_mut(&mut sensor));
    let stream = sensor.stream();
    let records: Vec<Vec<u8>> = (0..RECENT_MAX as u64 + 100).map(|number| sensor.record(number)).collect();
    for part in records.chunks(APPEND_RECORDS_MAX) {
        ledger.append(&stream, part.to_vec()).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let again = runtime.block_on(ledger.submit(&stream, [&*records[5], &*records[4_150]].into_iter())).unwrap();
    assert_eq!((again.sequence, again.index), (Sequence(4_151), RecordIndex(4 + 4_150)));
}

#[test]
fn a_full_queue_lets_callers_wait_and_tells_them() {
    let run = Run::create(&FaultyDisk::new(0)).unwrap();
    let shared = Arc::new(run.opened.shared);
    let mut sensor = Producer::named("sensor-1", 11, 1);
    sensor.opening(None);
    let record = sensor.record(1);
    let one = || Submission::new(sensor.stream(), vec![Incoming::read(&sensor.stream(), &record)]);
    // No thread takes anything out: all but the last fit.
    let fit = QUEUE_BYTES_MAX / one().room();
    let queued: Vec<Pending> = (0..fit).map(|_| Pending::new(shared.clone(), [one()])).collect();
    assert_eq!(lock(&shared.queue).waiting.len() as u64, fit);
    let (woken, waker) = counted();
    let mut last = pin!(Pending::new(shared.clone(), [one()]));
    assert!(last.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!((lock(&shared.queue).waiting.len() as u64, woken.0.load(Ordering::SeqCst)), (fit, 0));
    let group = shared.next_group(&|| ()).unwrap();
    assert_eq!(woken.0.load(Ordering::SeqCst), 1, "there is room");
    assert!(last.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(lock(&shared.queue).waiting.len(), queued.len() + 1 - group.len());
    // Who waits for room when the ledger closes is told.
    let filling: Vec<Pending> = (1..group.len()).map(|_| Pending::new(shared.clone(), [one()])).collect();
    let (woken, waker) = counted();
    let mut late = pin!(Pending::new(shared.clone(), [one()]));
    assert!(late.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(lock(&shared.queue).waiting.len() as u64, fit);
    shared.close_queue();
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    assert_eq!(late.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(Err(AppendError::Closed)));
    drop(filling);
}

#[test]
fn groups_stay_in_memory_until_they_are_published() {
    let disk = FaultyDisk::new(0);
    let mut run = Run::create(&disk).unwrap();
    let mut control = Producer::control();
    let observed =
        |control: &mut Producer, unchanged| control.seal(Draft::new(&FleetObserved { streams: vec![], unchanged }));
    let mut all = vec![run.opened.shared.read_some(0, 1).unwrap()[0].to_vec()];
    for number in 0..20_u64 {
        let mut group = vec![if number == 0 { control.opening(None) } else { observed(&mut control, number) }];
        group.extend((0..number % 3).map(|more| observed(&mut control, 1_000 + 10 * number + more)));
        all.extend(group.iter().cloned());
        run.commit(vec![(control.stream(), group)]).unwrap()[0].as_ref().unwrap();
    }
    {
        let state = lock(&run.opened.shared.state);
        assert_eq!(state.unpublished(PUBLISH_RECORDS_MAX).records().count(), all.len() - 1);
        assert_eq!(state.unpublished(1).records().count(), 1, "whole groups, one at least");
        for from in 1..=all.len() as u64 {
            let tail = state.tail_from(from, 3).unwrap();
            let expected = &all[from as usize..all.len().min(from as usize + 3)];
            let tail: Vec<Vec<u8>> = tail.records().take(3).map(|(record, _)| record.to_vec()).collect();
            assert_eq!(tail, expected, "from {from}");
        }
        assert!(state.tail_from(0, 1).is_none(), "record 0 was published before the groups came");
        assert_eq!(state.lag_bytes, all[1..].iter().map(Vec::len).sum::<usize>());
    }
    run.publish().unwrap();
    assert_eq!(lock(&run.opened.shared.state).lag_bytes, 0);
    assert_eq!(lock(&run.opened.shared.state).unpublished(PUBLISH_RECORDS_MAX).records().count(), 0);
}

/// A clock that panics in the writer's committing thread, once it is told to.
struct Trap(std::sync::atomic::AtomicBool);

impl Clock for Trap {
    fn now(&self) -> Timestamp {
        let commits = std::thread::current().name() == Some("ledger-commit");
        assert!(!(commits && self.0.load(Ordering::SeqCst)), "the trap that this test laid");
        Timestamp::default()
    }
}

#[test]
fn callers_are_answered_when_the_committing_thread_panics() {
    let folder = tempfile::tempdir().unwrap();
    let trap = Arc::new(Trap(false.into()));
    let ledger = Ledger::create(folder.path(), &opened(), signer(), trap.clone()).unwrap();
    let mut sensor = Producer::named("sensor-1", 11, 1);
    join(&ledger, std::slice::from_mut(&mut sensor));
    trap.0.store(true, Ordering::SeqCst);
    let (sender, answers) = std::sync::mpsc::channel();
    for number in 0..3 {
        let (ledger, sender, record) = (ledger.clone(), sender.clone(), sensor.record(number));
        let stream = sensor.stream();
        std::thread::spawn(move || sender.send(ledger.append(&stream, vec![record])).unwrap());
    }
    for _ in 0..3 {
        // A caller that is never answered would hang the test for ever.
        let answer = answers.recv_timeout(Duration::from_secs(60)).expect("every caller is answered");
        assert!(matches!(answer, Err(AppendError::Stopped { .. } | AppendError::Closed)), "{answer:?}");
    }
    assert!(ledger.stopped().is_some());
}
