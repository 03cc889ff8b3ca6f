//! The condition grammar, as Falco's filter parser accepts it. It works on characters, not tokens: what a character means
//! depends on where it stands (`proc.name in(a,b)` and `proc.name = in(` differ).
//!
//! ```ebnf
//! condition   = or ;
//! or          = and , { blank , "or" , ( blank | ? before "(" ? ) , and } ;
//! and         = unary , { blank , "and" , ( blank | ? before "(" ? ) , unary } ;
//! unary       = "not" , ( blank | ? before "(" ? ) , unary | "(" , or , ")" | check ;
//! check       = operand , operation | identifier (* a macro *) ;
//! operand     = field | transformer , "(" , argument , { "," , argument } , ")" , [ "[" , index , "]" ] ;
//! argument    = element | "(" , [ element , { "," , element } ] , ")" ;
//! element     = operand | quoted | number ;
//! field       = identifier , "." , identifier , { "." , identifier } , [ "[" , index , "]" ] ;
//! index       = quoted | ? one or more of all but [ ] " ' and white space ? ;
//! operation   = "exists"
//!             | ( "<" | "<=" | ">" | ">=" ) , ( number | value )
//!             | ( "=" | "==" | "!=" | word-operator , blank ) , ( word | quantifier , list | value )
//!             | ( "in" | "intersects" | "pmatch" ) , ( list | identifier (* a list *) | value ) ;
//! word-operator = "contains" | "icontains" | "bcontains" | "startswith" | "bstartswith" | "endswith"
//!             | "glob" | "iglob" | "regex" ;
//! quantifier  = "oneof" | "anyof" | "allof" ;
//! value       = "val" , "(" , field , ")" | transformer , "(" , ... , ")" ;
//! list        = "(" , [ word , { "," , word } ] , ")" ;
//! word        = quoted | ? one or more of all but ( ) " ' = , and white space ? ;
//! quoted      = '"' , { character | escape } , '"' | "'" , { character | escape } , "'" ;
//! escape      = "\" , ( b | f | n | r | t | "\" | "/" | " " | x hex hex | the quote ) ;
//! number      = "0x" , hex , { hex } | [ sign ] , digit , { digit } , [ "." , { digit } ] , [ e , sign , digit , { digit } ] ;
//! identifier  = letter , { letter | digit | "_" } ;
//! blank       = " " | tab | line feed | carriage return | backspace ;
//! ```
//! `not` binds more than `and`, `and` more than `or`. Blanks may stand between any two parts, except before a field's `[`,
//! before a transformer's `(`, and inside what has no blanks. Two `not` after each other are none. `\xHH` escapes are bytes of
//! UTF-8. NUL may not stand in a condition; `\x00` in quotes may, where the field holds bytes, which is not for the parser to know.
//! Depth is at most [`CONDITION_DEPTH_MAX`].
//!
//! Where it is kinder than Falco's parser: a quoted value may end in an escaped backslash (`"a\\"`), which Falco takes for an
//! escaped quote. Where it is stricter: a word of the language (`and`, `not`, `in`, ...) is no macro's name.

use super::{Argument, Check, Expr, FieldRef, Operand, Operator, Quantifier, Right, Spanned, Word};
use crate::limits::{CONDITION_BYTES_MAX, CONDITION_DEPTH_MAX, LIST_ITEMS_MAX};
use crate::suggest;

/// Why a text is not a condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ParseError {
    /// Byte offset in the text.
    pub(crate) offset: usize,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// A limit of ours rather than the grammar.
    pub(crate) is_limit: bool,
}

type Parsed<T> = Result<T, ParseError>;

const SYMBOLS: [(&str, Operator); 7] = [
    ("==", Operator::Equal),
    ("=", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("<=", Operator::LessEqual),
    ("<", Operator::Less),
    (">=", Operator::GreaterEqual),
    (">", Operator::Greater),
];

/// Word operators that need a blank after them.
const STRING_WORDS: [Operator; 9] = [
    Operator::Contains,
    Operator::IContains,
    Operator::BContains,
    Operator::StartsWith,
    Operator::BStartsWith,
    Operator::EndsWith,
    Operator::Glob,
    Operator::IGlob,
    Operator::Regex,
];

/// Word operators that do not; `intersects` before `in`, which begins it.
const LIST_WORDS: [Operator; 3] = [Operator::Intersects, Operator::In, Operator::PMatch];

pub(super) const TRANSFORMERS: [&str; 8] = ["tolower", "toupper", "b64", "basename", "len", "join", "concat", "getopt"];

const QUANTIFIERS: [Quantifier; 3] = [Quantifier::One, Quantifier::Any, Quantifier::All];

/// Parses a whole condition.
pub(crate) fn parse(text: &str) -> Parsed<Expr> {
    let mut parser = Parser::new(text)?;
    let expr = parser.or()?;
    parser.blanks();
    if parser.at < text.len() {
        return Err(parser.unexpected());
    }
    Ok(expr)
}

/// Parses a field or a transformer alone, such as an exception names: `proc.aname[2]`, `tolower(proc.name)`.
pub(crate) fn parse_operand(text: &str) -> Parsed<Operand> {
    let mut parser = Parser::new(text)?;
    parser.blanks();
    let operand = parser.operand()?;
    parser.blanks();
    if parser.at < text.len() {
        return Err(parser.fail(parser.at, "a field and nothing else is expected here"));
    }
    operand.ok_or_else(|| parser.fail(0, format!("`{text}` is not a field; a field has a dot, such as `proc.name`")))
}

/// Parses what may stand on the right side in place of a value: `val(fd.name)`, `tolower(fd.name)`. `None` when it is no such thing.
pub(crate) fn parse_right_operand(text: &str) -> Option<Operand> {
    let mut parser = Parser::new(text).ok()?;
    let operand = parser.right_operand().ok()??;
    (parser.at == text.len()).then_some(operand)
}

/// Is it the name of a transformer?
pub(crate) fn is_transformer(name: &str) -> bool {
    TRANSFORMERS.contains(&name)
}

/// Could the text stand in a condition without quotes?
pub(crate) fn is_bare_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c| matches!(c, '(' | ')' | '"' | '\'' | '=' | ',' | '\0') || is_space(c))
}

/// Parses a field alone, such as an output names: `proc.aname[2]`.
pub(crate) fn parse_field(text: &str) -> Parsed<FieldRef> {
    let mut parser = Parser::new(text)?;
    parser.blanks();
    let field = parser.field()?;
    parser.blanks();
    if parser.at < text.len() {
        return Err(parser.fail(parser.at, "a field and nothing else is expected here"));
    }
    field.ok_or_else(|| parser.fail(0, format!("`{text}` is not a field; a field has a dot, such as `proc.name`")))
}

/// Parses a comparison alone, as an exception has it: an operator, and for some a quantifier after it.
pub(crate) fn parse_comparison(text: &str) -> Option<(Operator, Option<Quantifier>)> {
    match text.trim().split_once(is_blank) {
        None => Some((parse_operator(text.trim())?, None)),
        Some((operator, quantifier)) => {
            let operator = parse_operator(operator)?;
            let quantifier = QUANTIFIERS.into_iter().find(|known| known.as_str() == quantifier.trim())?;
            let takes_one = operator != Operator::Exists && !operator.takes_list() && !operator.is_ordering();
            takes_one.then_some((operator, Some(quantifier)))
        }
    }
}

fn parse_operator(text: &str) -> Option<Operator> {
    let symbol = SYMBOLS.iter().find(|(symbol, _)| *symbol == text).map(|(_, operator)| *operator);
    let words = || STRING_WORDS.iter().chain(&LIST_WORDS).chain(&[Operator::Exists]).find(|word| word.as_str() == text);
    symbol.or_else(|| words().copied())
}

/// Parses words divided by commas, as a list's item is once it stands in a condition.
pub(crate) fn parse_words(text: &str) -> Parsed<Vec<Word>> {
    let mut parser = Parser::new(text)?;
    let mut words = Vec::new();
    loop {
        parser.blanks();
        words.push(parser.word()?);
        parser.blanks();
        if !parser.skip(",") {
            break;
        }
    }
    if parser.at < text.len() {
        return Err(parser.unexpected());
    }
    Ok(words)
}

/// Can a condition refer to a macro or list of this name?
pub(crate) fn is_identifier(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Parsed<Self> {
        if text.len() > CONDITION_BYTES_MAX {
            let message = format!("a condition of {} bytes, more than {CONDITION_BYTES_MAX}", text.len());
            return Err(ParseError {
                offset: 0,
                message,
                hint: Some("move parts into macros and lists".into()),
                is_limit: true,
            });
        }
        if let Some(offset) = text.find('\0') {
            let hint = Some("where a field holds bytes, write `\\x00` in quotes".to_owned());
            return Err(ParseError { offset, message: "a NUL byte in a condition".to_owned(), hint, is_limit: false });
        }
        Ok(Self { text, at: 0, depth: 0 })
    }

    fn or(&mut self) -> Parsed<Expr> {
        let mut parts = vec![self.and()?];
        while self.connective("or") {
            parts.push(self.and()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expr::Or(parts) })
    }

    fn and(&mut self) -> Parsed<Expr> {
        let mut parts = vec![self.unary()?];
        while self.connective("and") {
            parts.push(self.unary()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expr::And(parts) })
    }

    fn unary(&mut self) -> Parsed<Expr> {
        self.deeper()?;
        self.blanks();
        let expr = if self.connective("not") {
            match self.unary()? {
                Expr::Not(inner) => *inner,
                inner => Expr::Not(Box::new(inner)),
            }
        } else if self.skip("(") {
            let open = self.at - 1;
            let inner = self.or()?;
            self.blanks();
            if !self.skip(")") {
                let mut error = self.unexpected_or("`)` is missing");
                error.hint.get_or_insert_with(|| format!("the `(` at byte {open} of the condition is not closed"));
                return Err(error);
            }
            inner
        } else {
            self.check()?
        };
        self.depth -= 1;
        Ok(expr)
    }

    fn check(&mut self) -> Parsed<Expr> {
        let start = self.at;
        if let Some(left) = self.operand()? {
            return self.operation(left, start);
        }
        let Some(name) = self.identifier() else {
            return Err(self.expected_check());
        };
        let span = start..self.at;
        if self.peek() == Some('(') {
            let message = format!("`{name}` is not a transformer");
            let hint = suggest::hint(name, TRANSFORMERS)
                .or_else(|| Some(format!("transformers are {}", TRANSFORMERS.join(", "))));
            return Err(self.fail_hint(start, message, hint));
        }
        if matches!(name, "and" | "or" | "not" | "in" | "exists") {
            return Err(self.fail(start, format!("`{name}` where a check is expected")));
        }
        self.refuse_operator_after_macro(name, start)?;
        Ok(Expr::Macro(Spanned { value: name.to_owned(), span }))
    }

    /// `name = bash` is a macro followed by nonsense to the grammar; say what was meant.
    fn refuse_operator_after_macro(&mut self, name: &str, start: usize) -> Parsed<()> {
        let after = self.at;
        self.blanks();
        let operator = self.operator();
        self.at = after;
        match operator {
            Some(_) => {
                let hint = format!("fields have a dot: did you mean `proc.{name}`, `fd.{name}` or `evt.{name}`?");
                Err(self.fail_hint(start, format!("`{name}` is not a field"), Some(hint)))
            }
            None => Ok(()),
        }
    }

    /// A field or a transformer; `None`, with nothing taken, when neither stands here.
    fn operand(&mut self) -> Parsed<Option<Operand>> {
        let start = self.at;
        if let Some(name) = self.identifier() {
            let span = start..self.at;
            if TRANSFORMERS.contains(&name) && self.peek() == Some('(') {
                return self.transformed(Spanned { value: name.to_owned(), span }).map(Some);
            }
            if name == "val" && self.peek() == Some('(') {
                return Err(self.fail(start, "`val()` may only stand on the right side of a comparison"));
            }
        }
        self.at = start;
        Ok(self.field()?.map(Operand::Field))
    }

    fn transformed(&mut self, name: Spanned<String>) -> Parsed<Operand> {
        self.deeper()?;
        let arguments = self.arguments()?;
        self.depth -= 1;
        let index = if self.peek() == Some('[') { Some(self.index()?) } else { None };
        Ok(Operand::Transformed { name, arguments, index })
    }

    fn arguments(&mut self) -> Parsed<Vec<Argument>> {
        self.between_commas(|this| {
            if this.peek() != Some('(') {
                return this.element();
            }
            let open = this.at;
            this.at += 1;
            this.blanks();
            if this.skip(")") {
                return Ok(Argument::List(Vec::new()));
            }
            this.at = open;
            this.between_commas(Self::element).map(Argument::List)
        })
    }

    /// `(` , what `part` reads, and more of it after commas, `)`.
    fn between_commas(&mut self, part: impl Fn(&mut Self) -> Parsed<Argument>) -> Parsed<Vec<Argument>> {
        let mut parts = Vec::new();
        self.at += 1;
        loop {
            self.blanks();
            parts.push(part(self)?);
            self.blanks();
            if self.skip(")") {
                return Ok(parts);
            }
            if !self.skip(",") {
                return Err(self.unexpected_or("`,` or `)` is missing"));
            }
        }
    }

    /// A field, a transformer, a quoted text or a number. A bare text is none: it would be taken for a field misspelt.
    fn element(&mut self) -> Parsed<Argument> {
        let start = self.at;
        if matches!(self.peek(), Some('"' | '\'')) {
            return self.word().map(Argument::Word);
        }
        if let Some(operand) = self.operand()? {
            return Ok(Argument::Operand(operand));
        }
        if let Some(number) = self.number() {
            let text = number.to_owned();
            return Ok(Argument::Word(Word { text, quoted: false, span: start..self.at }));
        }
        let message = format!("a field, a transformer, a quoted text or a number is expected{}", self.found());
        let hint =
            self.identifier().map(|name| format!("fields have a dot; a text is written in quotes: `\"{name}\"`"));
        Err(self.fail_hint(start, message, hint))
    }

    fn field(&mut self) -> Parsed<Option<FieldRef>> {
        let start = self.at;
        if self.identifier().is_none() {
            return Ok(None);
        }
        let mut dots = 0;
        loop {
            let here = self.at;
            if !self.skip(".") {
                break;
            }
            if self.identifier().is_none() {
                self.at = here;
                break;
            }
            dots += 1;
        }
        if dots == 0 {
            self.at = start;
            return Ok(None);
        }
        let name = self.text[start..self.at].to_owned();
        let argument = if self.peek() == Some('[') { Some(self.index()?.value) } else { None };
        Ok(Some(FieldRef { name, argument, span: start..self.at }))
    }

    fn index(&mut self) -> Parsed<Spanned<String>> {
        let open = self.at;
        self.at += 1;
        let start = self.at;
        let is_quoted = matches!(self.peek(), Some('"' | '\''));
        let value = if is_quoted {
            self.quoted()?
        } else {
            let stop = |c: char| matches!(c, '[' | ']' | '"' | '\'') || is_space(c);
            self.take_until(stop).to_owned()
        };
        let span = start..self.at;
        if value.is_empty() && !is_quoted {
            return Err(self.fail(start, "an empty argument in `[]`"));
        }
        if !self.skip("]") {
            return Err(self.fail(open, "`[` is not closed by `]`"));
        }
        Ok(Spanned { value, span })
    }

    fn operation(&mut self, left: Operand, start: usize) -> Parsed<Expr> {
        self.blanks();
        let Some(operator) = self.operator() else {
            return Err(self.expected_operator());
        };
        self.blanks();
        let right = match operator.value {
            Operator::Exists => Right::Nothing,
            other if other.is_ordering() => self.number_or_value(other)?,
            other if other.takes_list() => self.list_or_value(other)?,
            _ => self.word_or_value()?,
        };
        Ok(Expr::Check(Box::new(Check { left, operator, right, span: start..self.at })))
    }

    fn operator(&mut self) -> Option<Spanned<Operator>> {
        let start = self.at;
        let found = self.symbol_operator().or_else(|| self.word_operator())?;
        Some(Spanned { value: found, span: start..self.at })
    }

    fn symbol_operator(&mut self) -> Option<Operator> {
        SYMBOLS.iter().find(|(symbol, _)| self.skip(symbol)).map(|(_, operator)| *operator)
    }

    fn word_operator(&mut self) -> Option<Operator> {
        if self.skip("exists") {
            return Some(Operator::Exists);
        }
        for word in STRING_WORDS {
            let rest = self.rest().strip_prefix(word.as_str());
            if rest.is_some_and(|rest| rest.starts_with(is_blank)) {
                self.at += word.as_str().len();
                return Some(word);
            }
        }
        LIST_WORDS.into_iter().find(|word| self.skip(word.as_str()))
    }

    fn number_or_value(&mut self, operator: Operator) -> Parsed<Right> {
        if let Some(operand) = self.right_operand()? {
            return Ok(Right::Operand(operand));
        }
        let start = self.at;
        let Some(text) = self.number() else {
            let message = format!("`{}` needs a number on its right side", operator.as_str());
            return Err(self.fail_hint(
                start,
                message,
                Some("write digits, or 0x and hexadecimal digits, without quotes".into()),
            ));
        };
        Ok(Right::One(Word { text: text.to_owned(), quoted: false, span: start..self.at }))
    }

    fn list_or_value(&mut self, operator: Operator) -> Parsed<Right> {
        if self.peek() == Some('(') {
            return self.list().map(Right::Many);
        }
        if let Some(operand) = self.right_operand()? {
            return Ok(Right::Operand(operand));
        }
        let start = self.at;
        match self.identifier() {
            Some(name) => {
                let text = name.to_owned();
                Ok(Right::Many(vec![Word { text, quoted: false, span: start..self.at }]))
            }
            None => {
                let message = format!("`{}` needs a list on its right side", operator.as_str());
                Err(self.fail_hint(start, message, Some("write values in parentheses: `(a, b)`".into())))
            }
        }
    }

    fn word_or_value(&mut self) -> Parsed<Right> {
        if let Some(operand) = self.right_operand()? {
            return Ok(Right::Operand(operand));
        }
        let word = self.word()?;
        let quantifier = QUANTIFIERS.into_iter().find(|quantifier| !word.quoted && quantifier.as_str() == word.text);
        if let Some(quantifier) = quantifier {
            let after = self.at;
            self.blanks();
            if self.peek() == Some('(') {
                return Ok(Right::Quantified(quantifier, self.list()?));
            }
            self.at = after;
        }
        Ok(Right::One(word))
    }

    /// `val(...)` or a transformer on the right side.
    fn right_operand(&mut self) -> Parsed<Option<Operand>> {
        let start = self.at;
        let name = self.identifier();
        let span = start..self.at;
        let is_call = self.peek() == Some('(');
        match name {
            Some("val") if is_call => {
                self.at += 1;
                self.blanks();
                let field = self.field()?;
                self.blanks();
                match field {
                    Some(field) if self.skip(")") => Ok(Some(Operand::Field(field))),
                    _ => Err(self.fail_hint(start, "`val()` takes one field", Some("write `val(proc.name)`".into()))),
                }
            }
            Some(name) if is_call && TRANSFORMERS.contains(&name) => {
                self.transformed(Spanned { value: name.to_owned(), span }).map(Some)
            }
            _ => {
                self.at = start;
                Ok(None)
            }
        }
    }

    fn list(&mut self) -> Parsed<Vec<Word>> {
        let open = self.at;
        self.at += 1;
        let mut words = Vec::new();
        self.blanks();
        if self.skip(")") {
            return Ok(words);
        }
        loop {
            self.blanks();
            words.push(self.word()?);
            if words.len() > LIST_ITEMS_MAX {
                let message = format!("a list of more than {LIST_ITEMS_MAX} values");
                return Err(ParseError { offset: open, message, hint: None, is_limit: true });
            }
            self.blanks();
            if self.skip(")") {
                return Ok(words);
            }
            if !self.skip(",") {
                return Err(self.unexpected_or("`,` or `)` is missing in a list"));
            }
        }
    }

    fn word(&mut self) -> Parsed<Word> {
        let start = self.at;
        if matches!(self.peek(), Some('"' | '\'')) {
            let text = self.quoted()?;
            return Ok(Word { text, quoted: true, span: start..self.at });
        }
        let text = self.take_until(|c| matches!(c, '(' | ')' | '"' | '\'' | '=' | ',') || is_space(c));
        if text.is_empty() {
            let hint = "quote values that hold blanks or ( ) , = \" '";
            return Err(self.fail_hint(start, format!("a value is expected{}", self.found()), Some(hint.into())));
        }
        Ok(Word { text: text.to_owned(), quoted: false, span: start..self.at })
    }

    fn quoted(&mut self) -> Parsed<String> {
        let start = self.at;
        let quote = self.next().expect("invariant: called at a quote");
        let mut value = Vec::new();
        loop {
            let here = self.at;
            match self.next() {
                None => return Err(self.fail(start, "a quoted value that does not end")),
                Some('\\') => value.push(self.escape(quote, here)?),
                Some(c) if c == quote => break,
                Some(c) => value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        String::from_utf8(value).map_err(|_| {
            let hint = "for bytes that are no text, compare with `bcontains` or `bstartswith`, in hexadecimal";
            self.fail_hint(start, "the `\\x` escapes of the value make no UTF-8 text", Some(hint.to_owned()))
        })
    }

    /// The byte an escape stands for; its backslash is taken.
    fn escape(&mut self, quote: char, start: usize) -> Parsed<u8> {
        let Some(c) = self.next() else {
            return Err(self.fail(start, "a quoted value that does not end"));
        };
        Ok(match c {
            'b' => 0x08,
            'f' => 0x0c,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            // Upstream's older files have `\ `; it has always meant the backslash.
            '\\' | ' ' => b'\\',
            '/' => b'/',
            'x' => {
                let is_hex = |digits: &&str| digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                let digits = self.rest().get(..2).filter(is_hex);
                let Some(code) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
                    return Err(self.fail(start, "`\\x` needs two hexadecimal digits"));
                };
                self.at += 2;
                code
            }
            c if c == quote => u8::try_from(quote).expect("invariant: a quote is one byte"),
            other => {
                let hint = "a backslash itself is written `\\\\`";
                return Err(self.fail_hint(start, format!("`\\{other}` is not an escape"), Some(hint.into())));
            }
        })
    }

    // Characters.

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn skip(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn blanks(&mut self) {
        self.take_until(|c| !is_blank(c));
    }

    fn take_until(&mut self, stop: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let taken = &rest[..rest.find(stop).unwrap_or(rest.len())];
        self.at += taken.len();
        taken
    }

    /// Hexadecimal with 0x, or decimal with sign, fraction and exponent. Nothing need follow it: `fd.num > 1and a` is right.
    fn number(&mut self) -> Option<&'a str> {
        let start = self.at;
        if self.skip("0x") || self.skip("0X") {
            if self.take_until(|c| !c.is_ascii_hexdigit()).is_empty() {
                // `0x` alone is the number 0 and an `x`, which nothing allows there.
                self.at = start + 1;
            }
            return Some(&self.text[start..self.at]);
        }
        let _ = self.skip("+") || self.skip("-");
        if self.take_until(|c| !c.is_ascii_digit()).is_empty() {
            self.at = start;
            return None;
        }
        if self.skip(".") {
            self.take_until(|c| !c.is_ascii_digit());
        }
        let mantissa = self.at;
        let has_exponent = (self.skip("e") || self.skip("E"))
            && (self.skip("+") || self.skip("-"))
            && !self.take_until(|c| !c.is_ascii_digit()).is_empty();
        if !has_exponent {
            self.at = mantissa;
        }
        Some(&self.text[start..self.at])
    }

    fn identifier(&mut self) -> Option<&'a str> {
        if !self.peek()?.is_ascii_alphabetic() {
            return None;
        }
        Some(self.take_until(|c| !(c.is_ascii_alphanumeric() || c == '_')))
    }

    /// `and`, `or` or `not`, when a blank, `(` or the end follows; else nothing is taken but blanks.
    fn connective(&mut self, word: &str) -> bool {
        self.blanks();
        let found = self
            .rest()
            .strip_prefix(word)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(|c| is_blank(c) || c == '('));
        if found {
            self.at += word.len();
        }
        found
    }

    fn deeper(&mut self) -> Parsed<()> {
        self.depth += 1;
        if self.depth > CONDITION_DEPTH_MAX {
            let message = format!("more than {CONDITION_DEPTH_MAX} nested parentheses and `not`");
            return Err(ParseError {
                offset: self.at,
                message,
                hint: Some("move parts into macros".into()),
                is_limit: true,
            });
        }
        Ok(())
    }

    // Errors.

    fn fail(&self, offset: usize, message: impl Into<String>) -> ParseError {
        self.fail_hint(offset, message, None)
    }

    fn fail_hint(&self, offset: usize, message: impl Into<String>, hint: Option<String>) -> ParseError {
        ParseError { offset, message: message.into(), hint, is_limit: false }
    }

    fn found(&self) -> String {
        let shown: String = self.rest().chars().take_while(|c| !is_blank(*c)).take(20).collect();
        if shown.is_empty() { ", but the condition ends here".to_owned() } else { format!(", not `{shown}`") }
    }

    fn unexpected_or(&self, missing: &str) -> ParseError {
        self.fail(self.at, format!("{missing}{}", self.found()))
    }

    fn unexpected(&self) -> ParseError {
        let word: String = self.rest().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        let hint = match self.peek() {
            Some(')') => Some("this `)` closes nothing".to_owned()),
            _ if word == "and" || word == "or" => Some(format!("`{word}` needs a check after it")),
            _ => suggest::hint(&word, ["and", "or"]).or_else(|| Some("join checks with `and` or `or`".to_owned())),
        };
        self.fail_hint(self.at, format!("`and`, `or` or the end is expected{}", self.found()), hint)
    }

    fn expected_check(&self) -> ParseError {
        self.fail(self.at, format!("a check is expected{}", self.found()))
    }

    fn expected_operator(&self) -> ParseError {
        let word: String = self.rest().chars().take_while(|c| !is_blank(*c) && *c != '(').collect();
        let words = STRING_WORDS.iter().chain(&LIST_WORDS).map(|operator| operator.as_str());
        let hint = if STRING_WORDS.iter().any(|operator| operator.as_str() == word) {
            Some(format!("`{word}` needs a blank and a value after it"))
        } else {
            let hint = suggest::hint(&word, words.chain(["exists", "=", "!="]));
            let bare = "a field alone is no check: compare it, as in `= true`, or write `exists`";
            hint.or_else(|| Some(bare.to_owned()))
        };
        self.fail_hint(self.at, format!("an operator is expected{}", self.found()), hint)
    }
}

/// The blanks of the grammar.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n' | '\u{8}')
}

/// What ends a bare word: not quite the same.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n' | '\u{b}' | '\u{c}')
}
