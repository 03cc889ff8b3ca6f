//! Events made of bytes and words: few enough to be tried with every input, odd enough to reach rarely used branches.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cairn_rules::event::{
    Address, Call, Descriptor, DescriptorKind, Event, EventKind, EventType, Exec, Exit, Fork, Open, Param, Process,
    Socket, Text,
};

/// Events made of one input.
const EVENTS_MAX: usize = 12;

/// The words of conditions: values that an event may have, so that rules hold now and then.
pub(crate) fn words(conditions: &str) -> Vec<String> {
    let is_word = |c: char| c.is_alphanumeric() || "/._-:+*|".contains(c);
    let words = conditions.split(|c: char| !is_word(c)).filter(|word| (1..64).contains(&word.len()));
    words.take(256).map(str::to_owned).collect()
}

/// The bytes that have not been used yet, over and over.
struct Dice<'a> {
    data: &'a [u8],
    at: usize,
}

impl Dice<'_> {
    fn byte(&mut self) -> u8 {
        let byte = self.data.get(self.at % self.data.len().max(1)).copied().unwrap_or_default();
        // Another round of the same bytes is not the same.
        let round = (self.at / self.data.len().max(1)) as u8;
        self.at += 1;
        byte.wrapping_add(round.wrapping_mul(31))
    }

    fn below(&mut self, end: usize) -> usize {
        (usize::from(self.byte()) << 8 | usize::from(self.byte())) % end.max(1)
    }

    fn text(&mut self, words: &[String]) -> Text {
        let word = words.get(self.below(words.len() + 1)).map_or("", String::as_str);
        match self.byte() % 6 {
            0 => format!("/etc/{word}").as_str().into(),
            1 => format!("{word}/{}", words.first().map_or("", String::as_str)).as_str().into(),
            2 => Text::from(&b"\xff\x00"[..]),
            _ => word.into(),
        }
    }

    fn process(&mut self, words: &[String]) -> Process {
        let args = (0..self.byte() % 4).map(|_| self.text(words)).collect();
        Process {
            ppid: u32::from(self.byte() % 5),
            uid: u32::from(self.byte() % 3),
            comm: self.text(words),
            exepath: self.text(words),
            cwd: self.text(words),
            args,
            tty: u32::from(self.byte() % 2),
            container: self.byte().is_multiple_of(2).then(|| "3f4a9c0b7d21".into()),
            sid: self.byte().is_multiple_of(2).then_some(1),
            ..Process::default()
        }
    }

    fn socket(&mut self) -> Socket {
        let ip = match self.byte() % 4 {
            0 => IpAddr::V4(Ipv4Addr::new(10, 0, 0, self.byte())),
            1 => IpAddr::V6(Ipv6Addr::from(u128::from(self.byte()) << 64)),
            _ => IpAddr::V4(Ipv4Addr::new(self.byte(), self.byte(), 0, 1)),
        };
        let address = Address { ip, port: [22, 53, 443, 4444][self.below(4)] };
        Socket {
            client: Some(Address { port: 40_000, ..address }),
            server: Some(address),
            is_server: self.byte().is_multiple_of(2).then_some(true),
            protocol: Some(6),
            ..Socket::default()
        }
    }

    fn call(&mut self, words: &[String]) -> EventKind {
        let types: Vec<EventType> = EventType::all().collect();
        let named = words.get(self.below(words.len() + 1)).and_then(|word| EventType::by_name(word));
        let event_type = named.unwrap_or_else(|| types[self.below(types.len())]);
        let params = event_type.params().iter().map(|param| param.name.to_owned());
        let params = params.map(|name| {
            let value = match self.byte() % 3 {
                0 => Param::Signed(i64::from(self.byte() as i8)),
                1 => Param::Unsigned(u64::from(self.byte()) << (self.byte() % 60)),
                _ => Param::Text(self.text(words)),
            };
            (name, value)
        });
        let params = params.collect();
        let kind = [DescriptorKind::File, DescriptorKind::Directory, DescriptorKind::Ipv4, DescriptorKind::Ipv6];
        let descriptor = Descriptor {
            num: Some(i64::from(self.byte() as i8)),
            kind: kind[self.below(kind.len())],
            name: self.text(words),
            socket: self.byte().is_multiple_of(2).then(|| self.socket()),
            ..Descriptor::default()
        };
        EventKind::Call(Box::new(Call {
            result: self.byte().is_multiple_of(2).then_some(i64::from(self.byte() as i8)),
            params,
            descriptor: self.byte().is_multiple_of(2).then(|| Box::new(descriptor)),
            ..Call::new(event_type)
        }))
    }
}

/// The events that the bytes stand for.
pub(crate) fn of(data: &[u8], words: &[String]) -> Vec<Event> {
    // The end of the input decides, so that its beginning can stay what it is.
    let mut dice = Dice { data: &data[data.len().saturating_sub(64)..], at: 0 };
    let mut events = Vec::with_capacity(EVENTS_MAX);
    for number in 0..EVENTS_MAX as u64 {
        let kind = match dice.byte() % 12 {
            0..4 => EventKind::Exec(Box::new(Exec { process: dice.process(words), ..Exec::default() })),
            4..7 => EventKind::Open(Box::new(Open {
                name: dice.text(words),
                nameraw: dice.text(words),
                flags: u32::from(dice.byte()) << (dice.byte() % 12),
                mode: u32::from(dice.byte()),
                result: i64::from(dice.byte() as i8),
                ..Open::default()
            })),
            7 => EventKind::Fork(Fork { child_pid: u32::from(dice.byte() % 5), ..Fork::default() }),
            8 => EventKind::Exit(Exit::default()),
            _ => dice.call(words),
        };
        let pid = u32::from(dice.byte() % 5);
        events.push(Event { time_ns: 1_700_000_000_000_000_000 + number, cpu: 0, tid: pid, pid, kind });
    }
    events
}
