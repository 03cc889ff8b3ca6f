use std::sync::Mutex;

use super::*;
use crate::witness::fixture::{Direct, Log, Memory, cosigner, witness};

const ORIGIN: &str = "acme/cairn/1";
const URL: &str = "http://w.example/add-checkpoint";
const NOW: CosignTime = CosignTime(1_700_000_000);

fn client() -> WitnessClient {
    WitnessClient::new("w", cosigner("w.example", 7).verifier().clone(), "http://w.example/")
}

fn direct(log: &Log, store: &Memory) -> Direct {
    let witnesses = [(URL.to_owned(), witness("w.example", 7, log, store))].into();
    Direct { witnesses, now: NOW, ..Direct::default() }
}

fn ask(client: &mut WitnessClient, log: &Log, transport: &dyn Transport) -> Result<String, AskError> {
    let head = Head::new(&log.head(log.size())).unwrap();
    client.ask(&head, &|old, new| Ok(log.prove(old, new)), transport, NOW)
}

/// A witness that answers what it is told to.
struct Says(Mutex<Vec<Reply>>);

impl Says {
    fn one(status: u16, content_type: Option<&str>, body: &[u8]) -> Says {
        Says::these(vec![Reply { status, content_type: content_type.map(ToOwned::to_owned), body: body.to_vec() }])
    }

    fn these(mut replies: Vec<Reply>) -> Says {
        replies.reverse();
        Says(Mutex::new(replies))
    }
}

impl Transport for Says {
    fn post(&self, _: &str, _: &[u8]) -> Result<Reply, TransportError> {
        let mut replies = self.0.lock().unwrap();
        // The last one for ever.
        Ok(if replies.len() > 1 { replies.pop().unwrap() } else { replies[0].clone() })
    }
}

#[test]
fn a_log_that_grows_is_cosigned_and_a_new_client_finds_its_place() {
    let (mut log, store) = (Log::new(ORIGIN), Memory::default());
    let transport = direct(&log, &store);
    let mut first = client();
    for _ in 0..3 {
        log.grow(7, "a");
        ask(&mut first, &log, &transport).unwrap();
        ask(&mut first, &log, &transport).unwrap();
    }
    assert_eq!(transport.asked.lock().unwrap().len(), 6, "one request each: it knows where the witness stands");
    // Another process: it asks, is told, and asks again.
    log.grow(7, "a");
    ask(&mut client(), &log, &transport).unwrap();
    assert_eq!(transport.asked.lock().unwrap().len(), 8);
    // The witness lost its memory: it says 0, and starts anew.
    let forgetful = direct(&log, &Memory::default());
    ask(&mut first, &log, &forgetful).unwrap();
}

#[test]
fn another_history_and_an_older_state_are_alarms() {
    let (mut log, store) = (Log::new(ORIGIN), Memory::default());
    log.grow(5, "a");
    let (mut fork, mut older) = (log.clone(), log.clone());
    older.grow(1, "a");
    log.grow(3, "a");
    fork.grow(3, "b");
    let transport = direct(&log, &store);
    let mut known = client();
    ask(&mut known, &log, &transport).unwrap();

    let forked = |size| AskError::Forked { witness: "w".into(), size: TreeSize(size) };
    assert_eq!(ask(&mut client(), &fork, &transport), Err(forked(8)));
    fork.grow(1, "b");
    assert_eq!(ask(&mut client(), &fork, &transport), Err(forked(8)));
    assert_eq!(ask(&mut known, &fork, &transport), Err(forked(8)));
    let behind = AskError::Ahead { witness: "w".into(), theirs: TreeSize(8), ours: TreeSize(6) };
    assert_eq!(ask(&mut client(), &older, &transport), Err(behind.clone()));
    assert!(forked(8).is_alarm() && behind.is_alarm());
    // It did not take the other's word for its own place.
    log.grow(1, "a");
    ask(&mut known, &log, &transport).unwrap();
}

#[test]
fn answers_that_are_none_are_refused_and_do_not_go_on_for_ever() {
    let mut log = Log::new(ORIGIN);
    log.grow(5, "a");
    let size = Some(SIZE_CONTENT_TYPE);
    let nonsense = |transport: Says| match ask(&mut client(), &log, &transport).unwrap_err() {
        AskError::Nonsense { what, .. } => what,
        other => panic!("{other}"),
    };
    assert_eq!(nonsense(Says::one(409, None, b"5\n")), "a 409 without text/x.tlog.size");
    for body in ["", "5", "05\n", "-1\n", "5\n5\n", "x\n", "18446744073709551616\n"] {
        assert_eq!(nonsense(Says::one(409, size, body.as_bytes())), "a 409 whose body is not a size");
    }
    assert_eq!(nonsense(Says::one(409, size, b"0\n")), "it refuses the size that it names");
    let conflict =
        |at: u64| Reply { status: 409, content_type: size.map(Into::into), body: format!("{at}\n").into_bytes() };
    assert_eq!(nonsense(Says::these((1..9).map(conflict).collect())), "it names another size each time");
    assert_eq!(nonsense(Says::one(200, None, b"")), "the note is not a text, a blank line and signature lines");
    assert_eq!(nonsense(Says::one(200, None, b"\xff\n")).split(' ').next(), Some("the"));
    assert!(matches!(
        ask(&mut client(), &log, &Says::one(409, size, b"6\n")).unwrap_err(),
        AskError::Ahead { theirs: TreeSize(6), .. }
    ));
    for status in [301, 400, 403, 404, 413, 422, 429, 500, 503] {
        let refused = ask(&mut client(), &log, &Says::one(status, None, b"  no\n\x1b[31m \xff")).unwrap_err();
        let reason = "no [31m \u{fffd}".to_owned();
        assert_eq!(refused, AskError::Declined { witness: "w".into(), status, reason });
        assert!(!refused.is_alarm());
    }
}

#[test]
fn only_a_cosignature_of_this_checkpoint_by_this_key_made_now_is_taken() {
    let mut log = Log::new(ORIGIN);
    log.grow(5, "a");
    let head = Head::new(&log.head(TreeSize(5))).unwrap();
    let text = head.checkpoint().to_text();
    let ours = cosigner("w.example", 7);
    let said = |lines: String| ask(&mut client(), &log, &Says::one(200, Some("text/plain"), lines.as_bytes()));
    let line = |time| ours.line(&text, CosignTime(time)).unwrap();

    let good = line(NOW.0);
    let stranger = cosigner("stranger", 9).line(&text, NOW).unwrap();
    assert_eq!(said(stranger.clone() + &good + &stranger), Ok(good.clone()), "strangers' lines are left out");
    assert_eq!(said(line(NOW.0 - 9) + &good), Ok(good.clone()), "the later one");
    for time in [NOW.0 - CLOCK_TOLERANCE, NOW.0 + CLOCK_TOLERANCE] {
        assert_eq!(said(line(time)), Ok(line(time)));
    }
    // Replayed: made a while ago. Or ahead of time, to be used later.
    for stated in [NOW.0 - CLOCK_TOLERANCE - 1, NOW.0 + CLOCK_TOLERANCE + 1, 1, 0] {
        assert_eq!(said(line(stated)), Err(AskError::Clock { witness: "w".into(), stated, now: NOW.0 }));
    }
    let nonsense = |lines: String| matches!(said(lines), Err(AskError::Nonsense { .. }));
    assert!(nonsense(stranger));
    // The name of the witness, another key.
    assert!(nonsense(cosigner("w.example", 9).line(&text, NOW).unwrap()));
    // Its key, another checkpoint; another log.
    let mut grown = log.clone();
    grown.grow(1, "a");
    let larger = Head::new(&grown.head(TreeSize(6))).unwrap();
    assert!(nonsense(ours.line(&larger.checkpoint().to_text(), NOW).unwrap()));
    assert!(nonsense(ours.line(&text.replace("cairn/1", "cairn/2"), NOW).unwrap()));
    assert!(nonsense(good.replace("\n", "")));
    assert!(nonsense(format!("{good}\nanother note\n\n{good}")));
}

#[test]
fn lines_are_put_together_until_the_policy_is_met() {
    let mut log = Log::new(ORIGIN);
    log.grow(5, "a");
    let head = Head::new(&log.head(TreeSize(5))).unwrap();
    let witnesses: Vec<_> = (1..=3).map(|n| cosigner(&format!("w{n}.example"), n)).collect();
    let mut policy = format!("log {}\n", log.vkey());
    for (n, witness) in (1..).zip(&witnesses) {
        policy += &format!("witness w{n} {} http://w{n}.example/\n", witness.verifier());
    }
    policy += &format!("witness silent {}\ngroup g 2 w1 w2 w3\nquorum g\n", cosigner("silent", 9).verifier());
    let cosigner = Cosigner::new(Policy::parse(policy.as_bytes()).unwrap());
    let names: Vec<String> = cosigner.clients().iter().map(|client| client.name().to_owned()).collect();
    assert_eq!(names, ["w1", "w2", "w3"], "who has no URL is not asked");
    let lines: Vec<String> = witnesses.iter().map(|w| w.line(&head.checkpoint().to_text(), NOW).unwrap()).collect();
    assert!(!cosigner.merge(&head, &lines[..1]).unwrap().1.met);
    assert!(!cosigner.merge(&head, &[lines[0].clone(), lines[0].clone()]).unwrap().1.met, "twice the same");
    let (bytes, evaluation) = cosigner.merge(&head, &lines[1..]).unwrap();
    assert!(evaluation.met);
    assert!(bytes.starts_with(head.note()));
    assert_eq!(cosigner.policy().check(&bytes, ORIGIN, &[]).unwrap().0, *head.checkpoint());
}
