//! Builtins of the engine whose cost its clock cannot bound, with a bound.
//!
//! The engine looks at the clock between expressions, never inside a builtin: `numbers.range(1, 1e9)` would exhaust the memory
//! first. An extension of the same name takes precedence over a builtin, so each one here first estimates what the call would
//! make from its arguments, refuses what is too much (an error, hence a denial, never a wrong answer), and then calls the builtin.
//! `strings.count` is replaced outright: the engine's panics on an empty needle and counts overlaps where OPA does not.

use regorus::unstable::{BUILTINS, BuiltinFcn, Expr, Ref, Span};
use regorus::{Engine, Source, Value};

use crate::limits::{BUILTIN_BYTES_MAX, BUILTIN_ELEMENTS_MAX, FORMAT_WIDTH_MAX, SHIFT_BITS_MAX};
use crate::problem::engine_reason;

/// What a call would cost, or why it cannot be afforded.
type Estimate = fn(&[Value]) -> Result<(), Refusal>;

/// A call that would cost too much.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The result, or an argument, is too big.
    #[error("takes or makes more than {BUILTIN_BYTES_MAX} bytes")]
    Bytes,
    /// The result has too many elements.
    #[error("makes more than {BUILTIN_ELEMENTS_MAX} elements")]
    Elements,
    /// A shift too far.
    #[error("shifts by more than {SHIFT_BITS_MAX} bits")]
    Shift,
    /// A width or precision too large.
    #[error("has a width or precision above {FORMAT_WIDTH_MAX}")]
    Width,
}

/// The builtins bounded here, with their number of arguments.
const BOUNDED: &[(&str, u8, Estimate)] = &[
    ("array.concat", 2, elements_and_weight),
    ("base64.encode", 1, weight),
    ("base64url.encode", 1, weight),
    ("base64url.encode_no_pad", 1, weight),
    ("bits.lsh", 2, shift),
    ("concat", 2, joined),
    ("hex.encode", 1, weight),
    ("json.marshal", 1, weight),
    ("json.marshal_with_options", 2, weight),
    ("json.patch", 2, weight),
    ("net.cidr_expand", 1, hosts),
    ("numbers.range", 2, range),
    ("numbers.range_step", 3, range),
    ("object.union", 2, weight),
    ("object.union_n", 1, weight),
    ("regex.replace", 3, regex_replaced),
    ("replace", 3, replaced),
    ("sprintf", 2, formatted),
    ("strings.replace_n", 2, replaced_n),
    ("urlquery.encode", 1, weight),
    ("urlquery.encode_object", 1, weight),
    ("yaml.marshal", 1, weight),
];

/// `strings.count` is ours altogether.
const STRINGS_COUNT: &str = "strings.count";

/// Number of arguments of a builtin bounded here; these do not take a result as a further argument.
pub(crate) fn arity(name: &str) -> Option<usize> {
    if name == STRINGS_COUNT {
        return Some(2);
    }
    BOUNDED.iter().find(|(bounded, ..)| *bounded == name).map(|(_, arity, _)| usize::from(*arity))
}

/// Puts the bounds in place of the builtins.
pub(crate) fn install(engine: &mut Engine) {
    for (name, arity, estimate) in BOUNDED {
        let Some(builtin) = BUILTINS.get(name) else { continue };
        let call = Bounded { name, estimate: *estimate, builtin: *builtin };
        add(engine, name, *arity, move |arguments: Vec<Value>| match call.call(&arguments) {
            Ok(value) => Ok(value),
            Err(reason) => Err(engine_error(&reason)),
        });
    }
    add(engine, STRINGS_COUNT, 2, |arguments: Vec<Value>| match (arguments[0].as_string(), arguments[1].as_string()) {
        (Ok(text), Ok(needle)) if needle.is_empty() => Ok(Value::from(text.chars().count() + 1)),
        (Ok(text), Ok(needle)) => Ok(Value::from(text.matches(needle.as_ref()).count())),
        _ => Err(engine_error("strings.count takes two strings")),
    });
}

fn add(
    engine: &mut Engine,
    name: &str,
    arity: u8,
    call: impl Fn(Vec<Value>) -> Result<Value, anyhow::Error> + Clone + Send + Sync + 'static,
) {
    engine
        .add_extension(name.to_owned(), arity, Box::new(call))
        .expect("invariant: each bounded builtin is listed once, and engines are new");
}

fn engine_error(reason: &str) -> anyhow::Error {
    anyhow::Error::msg(reason.to_owned())
}

/// One builtin behind its bound.
#[derive(Clone, Copy)]
struct Bounded {
    name: &'static str,
    estimate: Estimate,
    builtin: BuiltinFcn,
}

impl Bounded {
    fn call(&self, arguments: &[Value]) -> Result<Value, String> {
        (self.estimate)(arguments).map_err(|refusal| format!("{} {refusal}", self.name))?;
        // The builtin wants to know where its arguments stand, for its errors. It stands behind an extension, which does not
        // know; the engine adds the place of the call.
        let source = Source::from_contents("<builtin>".to_owned(), self.name.to_owned())
            .map_err(|error| engine_reason(&error.to_string()))?;
        let span = Span { source, line: 1, col: 1, start: 0, end: 0 };
        let parameters: Vec<Ref<Expr>> = arguments
            .iter()
            .map(|_| Ref::new(Expr::Null { span: span.clone(), value: Value::Null, eidx: 0 }))
            .collect();
        (self.builtin.0)(&span, &parameters, arguments, true).map_err(|error| engine_reason(&error.to_string()))
    }
}

// === estimates ===

/// Bytes a value takes as text, roughly; refused above the limit. Values may share parts, so a small one in memory can be
/// exponentially large as text: the count stops as soon as it is too much.
fn bytes(value: &Value, used: &mut u64) -> Result<(), Refusal> {
    let mut pending = vec![value];
    while let Some(value) = pending.pop() {
        *used += 8;
        match value {
            Value::String(text) => *used += text.len() as u64,
            Value::Array(items) => pending.extend(items.iter()),
            Value::Set(items) => pending.extend(items.iter()),
            Value::Object(fields) => pending.extend(fields.iter_sorted().flat_map(|(key, value)| [key, value])),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Undefined => {}
        }
        if *used > BUILTIN_BYTES_MAX {
            return Err(Refusal::Bytes);
        }
    }
    Ok(())
}

fn weight(arguments: &[Value]) -> Result<(), Refusal> {
    let mut used = 0;
    arguments.iter().try_for_each(|argument| bytes(argument, &mut used))
}

fn elements_and_weight(arguments: &[Value]) -> Result<(), Refusal> {
    let total: usize = arguments.iter().filter_map(|argument| argument.as_array().ok()).map(|items| items.len()).sum();
    if total as u64 > BUILTIN_ELEMENTS_MAX { Err(Refusal::Elements) } else { Ok(()) }
}

fn within(bytes: Option<u64>) -> Result<(), Refusal> {
    bytes.filter(|bytes| *bytes <= BUILTIN_BYTES_MAX).map(|_| ()).ok_or(Refusal::Bytes)
}

fn len(value: &Value) -> u64 {
    value.as_string().map(|text| text.len() as u64).unwrap_or(0)
}

fn shift(arguments: &[Value]) -> Result<(), Refusal> {
    match arguments[1].as_u64() {
        Ok(bits) if bits > SHIFT_BITS_MAX => Err(Refusal::Shift),
        _ => Ok(()),
    }
}

fn joined(arguments: &[Value]) -> Result<(), Refusal> {
    weight(arguments)?;
    let items = match &arguments[1] {
        Value::Array(items) => items.len(),
        Value::Set(items) => items.len(),
        _ => 0,
    };
    within((items as u64).checked_mul(len(&arguments[0])))
}

fn hosts(arguments: &[Value]) -> Result<(), Refusal> {
    let Ok(network) = arguments[0].as_string() else { return Ok(()) };
    let Some((address, prefix)) = network.rsplit_once('/') else { return Ok(()) };
    let bits: u32 = if address.contains(':') { 128 } else { 32 };
    match prefix.parse::<u32>().ok().and_then(|prefix| bits.checked_sub(prefix)) {
        Some(host_bits) if host_bits < 64 && 1_u64 << host_bits <= BUILTIN_ELEMENTS_MAX => Ok(()),
        Some(_) => Err(Refusal::Elements),
        None => Ok(()),
    }
}

fn range(arguments: &[Value]) -> Result<(), Refusal> {
    let number = |value: &Value| value.as_f64().ok();
    let (Some(from), Some(to)) = (number(&arguments[0]), number(&arguments[1])) else { return Err(Refusal::Elements) };
    let step = arguments.get(2).and_then(number).map_or(1.0, f64::abs);
    let elements = (to - from).abs() / step;
    // Also refuses what is not a number: a step of zero.
    if elements < BUILTIN_ELEMENTS_MAX as f64 { Ok(()) } else { Err(Refusal::Elements) }
}

fn replaced(arguments: &[Value]) -> Result<(), Refusal> {
    weight(arguments)?;
    let (text, old, new) = (len(&arguments[0]), len(&arguments[1]), len(&arguments[2]));
    within((text / old.max(1) + 1).checked_mul(new).and_then(|made| made.checked_add(text)))
}

fn replaced_n(arguments: &[Value]) -> Result<(), Refusal> {
    weight(arguments)?;
    let mut text = len(&arguments[1]);
    if let Ok(patterns) = arguments[0].as_object() {
        for (old, new) in patterns.iter_sorted() {
            let made = (text / len(old).max(1) + 1).checked_mul(len(new)).and_then(|made| made.checked_add(text));
            within(made)?;
            text = made.unwrap_or(BUILTIN_BYTES_MAX);
        }
    }
    Ok(())
}

fn regex_replaced(arguments: &[Value]) -> Result<(), Refusal> {
    weight(arguments)?;
    // The argument order is (text, pattern, value); each `$` in the value may stand for as much as the whole match.
    let (text, value) = (len(&arguments[0]), len(&arguments[2]));
    let groups = arguments[2].as_string().map(|value| value.matches('$').count() as u64).unwrap_or(0);
    let made = (text + 1).checked_mul(value).zip(text.checked_mul(groups));
    within(made.and_then(|(plain, expanded)| plain.checked_add(expanded)))
}

fn formatted(arguments: &[Value]) -> Result<(), Refusal> {
    weight(arguments)?;
    let Ok(format) = arguments[0].as_string() else { return Ok(()) };
    let too_wide =
        |digits: &str| !digits.is_empty() && digits.parse::<u64>().map_or(true, |width| width > FORMAT_WIDTH_MAX);
    let after_percent = format.split('%').skip(1).map(|rest| rest.trim_start_matches(['.', '-', '+', '#', ' ']));
    for verb in after_percent {
        let end = verb.find(|letter: char| !letter.is_numeric()).unwrap_or(verb.len());
        if too_wide(&verb[..end]) {
            return Err(Refusal::Width);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
        let (name, _, estimate) = BOUNDED.iter().find(|(bounded, ..)| *bounded == name).unwrap();
        Bounded { name, estimate: *estimate, builtin: *BUILTINS.get(name).unwrap() }.call(arguments)
    }

    #[test]
    fn every_bounded_builtin_exists_and_takes_that_many_arguments() {
        for (name, arity, _) in BOUNDED {
            assert_eq!(BUILTINS.get(name).map(|builtin| builtin.1), Some(*arity), "{name}");
        }
    }

    #[test]
    fn a_range_at_the_limit_is_made_and_one_more_refused() {
        let range = |to: u64| call("numbers.range", &[Value::from(1_u64), Value::from(to)]);
        assert_eq!(range(BUILTIN_ELEMENTS_MAX).unwrap().as_array().unwrap().len() as u64, BUILTIN_ELEMENTS_MAX);
        assert!(range(BUILTIN_ELEMENTS_MAX + 1).unwrap_err().contains("more than 100000 elements"));
        assert!(call("numbers.range_step", &[Value::from(1_u64), Value::from(9_u64), Value::from(0_u64)]).is_err());
    }

    #[test]
    fn text_that_would_grow_without_bound_is_refused() {
        let long = Value::from("a".repeat(BUILTIN_BYTES_MAX as usize / 16));
        assert!(call("replace", &[long.clone(), Value::from("a"), long.clone()]).is_err());
        assert!(
            call("strings.replace_n", &[Value::from_json_str(r#"{"a":"bbbbbbbbbbbbbbbbbb"}"#).unwrap(), long.clone()])
                .is_err()
        );
        assert!(call("regex.replace", &[long.clone(), Value::from("a"), Value::from("$0$0$0$0$0$0$0$0")]).is_err());
        assert!(call("sprintf", &[Value::from("%999999999d"), Value::from_json_str("[1]").unwrap()]).is_err());
        assert!(call("bits.lsh", &[Value::from(1_u64), Value::from(SHIFT_BITS_MAX + 1)]).is_err());
        assert!(call("bits.lsh", &[Value::from(1_u64), Value::from(SHIFT_BITS_MAX)]).is_ok());
        assert!(call("net.cidr_expand", &[Value::from("10.0.0.0/8")]).is_err());
        assert_eq!(call("net.cidr_expand", &[Value::from("10.0.0.0/24")]).unwrap().as_array().unwrap().len(), 256);
    }

    #[test]
    fn a_value_that_is_exponential_as_text_is_refused() {
        let mut value = Value::from("a");
        for _ in 0..40 {
            value = Value::from(vec![value.clone(), value]);
        }
        assert!(call("json.marshal", std::slice::from_ref(&value)).is_err());
        assert!(call("sprintf", &[Value::from("%v"), Value::from(vec![value])]).is_err());
    }

    #[test]
    fn a_small_call_gives_what_the_builtin_gives() {
        let words = Value::from_json_str(r#"["a","b"]"#).unwrap();
        assert_eq!(call("concat", &[Value::from(", "), words]).unwrap(), Value::from("a, b"));
        let error = call("concat", &[Value::from(1_u64), Value::from(2_u64)]).unwrap_err();
        assert!(!error.contains('\n') && error.contains("string"), "{error}");
    }
}
