//! Reads one source file: what it defines, what it imports and which paths its code names, without docs and tests.
//!
//! It works on tokens, so comments and strings are never mistaken for code, and macros are read like other code.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// A module as written, the one of a whole file or an inline one.
#[derive(Debug, Default)]
pub(crate) struct Module {
    /// Modules that are files of their own.
    pub(crate) children: Vec<String>,
    pub(crate) inline: Vec<(String, Module)>,
    pub(crate) defines: BTreeSet<String>,
    pub(crate) imports: Vec<Import>,
    /// Paths of at least two segments outside `use`.
    pub(crate) paths: Vec<(usize, Vec<String>)>,
    /// Every identifier outside `use`.
    pub(crate) mentions: BTreeSet<String>,
    /// The text of each line, without white space, docs, comments and tests.
    pub(crate) lines: BTreeMap<usize, String>,
}

/// One name of a `use`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Import {
    pub(crate) line: usize,
    pub(crate) path: Vec<String>,
    /// `None` for `*`.
    pub(crate) name: Option<String>,
    /// Whether it has a visibility: `pub` or `pub(..)`.
    pub(crate) is_reexport: bool,
}

pub(crate) fn read(text: &str) -> Result<Module, String> {
    let tokens: TokenStream = text.parse().map_err(|error| format!("{error}"))?;
    let mut module = Module::default();
    walk(tokens, true, &mut module);
    Ok(module)
}

/// `is_top` means that items belong to the module, not to a function or an `impl`.
fn walk(tokens: TokenStream, is_top: bool, module: &mut Module) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    let mut is_public = false;
    while let Some(token) = tokens.get(at) {
        let rest = &tokens[at..];
        let is_reexport = mem::take(&mut is_public);
        if let Some((length, attribute)) = attribute(rest) {
            let is_test = is_test(&attribute);
            if word(attribute.first()) != "doc" && !is_test {
                note(&rest[..length], module);
            }
            at += length;
            if is_test {
                at += item_length(&tokens[at..]);
            }
            continue;
        }
        match word(Some(token)).as_str() {
            "pub" => {
                is_public = true;
                note(&rest[..1], module);
                at += 1;
                if let Some(group) = group(tokens.get(at), Delimiter::Parenthesis) {
                    // The path of `pub(in path)` names no dependency.
                    let visibility: Vec<_> = group.into_iter().collect();
                    if ["crate", "super", "self", "in"].contains(&word(visibility.first()).as_str())
                    {
                        note(&tokens[at..=at], module);
                        at += 1;
                    }
                }
                continue;
            }
            // `use<'a>` in a bound imports nothing.
            "use" if !is_punct(rest.get(1), '<') => {
                let length = until_semicolon(rest);
                note(&rest[..length], module);
                let tree = &rest[1..length];
                imports(tree, Vec::new(), is_reexport, &mut module.imports);
                at += length;
                continue;
            }
            "mod" if is_top && is_punct(rest.get(2), ';') => {
                module.children.push(word(rest.get(1)));
                note(&rest[..3], module);
                at += 3;
                continue;
            }
            "mod" if is_top => {
                if let Some(body) = group(rest.get(2), Delimiter::Brace) {
                    let mut inner = Module::default();
                    walk(body, true, &mut inner);
                    note(&rest[..2], module);
                    for (line, text) in &inner.lines {
                        module.lines.entry(*line).or_default().push_str(text);
                    }
                    module.inline.push((word(rest.get(1)), inner));
                    at += 3;
                    continue;
                }
            }
            "fn" | "struct" | "enum" | "union" | "trait" | "type" | "const" | "static"
                if is_top && matches!(rest.get(1), Some(TokenTree::Ident(_))) =>
            {
                module.defines.insert(word(rest.get(1)));
            }
            "macro_rules" if is_punct(rest.get(1), '!') => {
                module.defines.insert(word(rest.get(2)));
            }
            _ => {}
        }
        match token {
            TokenTree::Ident(ident) => {
                module.mentions.insert(plain(&ident.to_string()));
                // Not inside a path, and no `$name` of a macro but `$crate`.
                let is_variable = at > 0 && is_punct(tokens.get(at - 1), '$') && ident != "crate";
                let starts = !ends_with_separator(&tokens[..at]) && !is_variable;
                let path = path(rest);
                if starts && path.len() > 1 {
                    module.paths.push((ident.span().start().line, path));
                }
                note(&rest[..1], module);
            }
            TokenTree::Group(group) => {
                let follows_bang = |back| at >= back && is_punct(tokens.get(at - back), '!');
                let (open, close) = brackets(group.delimiter());
                write(group.span_open().start().line, open, module);
                if follows_bang(2) && !word(tokens.get(at - 1)).is_empty() {
                    // The arms of `macro_rules! name`, each a pattern and items.
                    for arm in group.stream() {
                        match arm {
                            TokenTree::Group(arm) => walk(arm.stream(), is_top, module),
                            other => note(&[other], module),
                        }
                    }
                } else {
                    walk(group.stream(), is_top && follows_bang(1), module);
                }
                write(group.span_close().start().line, close, module);
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => note(&rest[..1], module),
        }
        at += 1;
    }
}

/// The length of the attribute that begins here, and what is in its brackets.
fn attribute(tokens: &[TokenTree]) -> Option<(usize, Vec<TokenTree>)> {
    if !is_punct(tokens.first(), '#') {
        return None;
    }
    let bracket = if is_punct(tokens.get(1), '!') { 2 } else { 1 };
    let inside = group(tokens.get(bracket), Delimiter::Bracket)?;
    Some((bracket + 1, inside.into_iter().collect()))
}

/// Whether what has this attribute is compiled for tests only.
fn is_test(attribute: &[TokenTree]) -> bool {
    match word(attribute.first()).as_str() {
        "test" => attribute.len() == 1,
        "cfg" => group(attribute.get(1), Delimiter::Parenthesis)
            .is_some_and(|inside| needs_test(&inside.into_iter().collect::<Vec<_>>())),
        _ => false,
    }
}

fn needs_test(condition: &[TokenTree]) -> bool {
    let name = word(condition.first());
    let Some(inside) = group(condition.get(1), Delimiter::Parenthesis) else {
        return name == "test" || name == "doctest";
    };
    let inside: Vec<_> = inside.into_iter().collect();
    let mut conditions = inside
        .split(|token| is_punct(Some(token), ','))
        .filter(|condition| !condition.is_empty());
    match name.as_str() {
        "all" => conditions.any(needs_test),
        "any" => conditions.all(needs_test),
        _ => false,
    }
}

/// How many tokens the item, statement, field or arm after a `#[cfg(test)]` has.
fn item_length(tokens: &[TokenTree]) -> usize {
    let mut at = 0;
    while let Some((length, _)) = attribute(&tokens[at..]) {
        at += length;
    }
    // Visibility and qualifiers come before the word that says what it is.
    let mut words = tokens[at..].iter().map(|token| word(Some(token)));
    let kind =
        words.find(|word| !matches!(word.as_str(), "" | "pub" | "async" | "unsafe" | "extern"));
    let kind = kind.unwrap_or_default();
    let is_item = [
        "fn",
        "mod",
        "impl",
        "struct",
        "enum",
        "trait",
        "macro_rules",
    ]
    .contains(&kind.as_str())
        || (kind == "const" && words.next().is_some_and(|next| next == "fn"));
    let ends_at_semicolon = ["use", "static", "let", "const", "type"].contains(&kind.as_str());
    for (offset, token) in tokens[at..].iter().enumerate() {
        let is_end = is_punct(Some(token), ';')
            || (!is_item && !ends_at_semicolon && is_punct(Some(token), ','))
            || ((is_item || !ends_at_semicolon) && group(Some(token), Delimiter::Brace).is_some());
        if is_end {
            return at + offset + 1;
        }
    }
    tokens.len()
}

fn until_semicolon(tokens: &[TokenTree]) -> usize {
    let semicolon = tokens.iter().position(|token| is_punct(Some(token), ';'));
    semicolon.map_or(tokens.len(), |semicolon| semicolon + 1)
}

fn imports(tree: &[TokenTree], mut path: Vec<String>, is_reexport: bool, found: &mut Vec<Import>) {
    let mut line = 0;
    let mut alias = None;
    let mut tokens = tree.iter();
    while let Some(token) = tokens.next() {
        line = token.span().start().line;
        match token {
            TokenTree::Ident(ident) if ident == "as" => alias = Some(word(tokens.next())),
            TokenTree::Ident(ident) => path.push(plain(&ident.to_string())),
            TokenTree::Punct(punct) if punct.as_char() == '*' => {
                found.push(Import {
                    line,
                    path,
                    name: None,
                    is_reexport,
                });
                return;
            }
            TokenTree::Group(group) => {
                let inside: Vec<_> = group.stream().into_iter().collect();
                for tree in inside.split(|token| is_punct(Some(token), ',')) {
                    if !tree.is_empty() {
                        imports(tree, path.clone(), is_reexport, found);
                    }
                }
                return;
            }
            TokenTree::Punct(punct) if punct.as_char() == ';' => break,
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
    if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    let name = alias.or_else(|| path.last().cloned());
    found.push(Import {
        line,
        path,
        name,
        is_reexport,
    });
}

/// The segments of the path that begins here.
fn path(tokens: &[TokenTree]) -> Vec<String> {
    let mut path = vec![word(tokens.first())];
    let mut rest = &tokens[1..];
    while let [
        TokenTree::Punct(one),
        TokenTree::Punct(two),
        TokenTree::Ident(next),
        ..,
    ] = rest
    {
        if one.as_char() != ':' || two.as_char() != ':' {
            break;
        }
        path.push(plain(&next.to_string()));
        rest = &rest[3..];
    }
    path
}

/// The identifier, or an empty text for other tokens.
fn word(token: Option<&TokenTree>) -> String {
    match token {
        Some(TokenTree::Ident(ident)) => plain(&ident.to_string()),
        _ => String::new(),
    }
}

fn plain(ident: &str) -> String {
    ident.strip_prefix("r#").unwrap_or(ident).to_owned()
}

fn is_punct(token: Option<&TokenTree>, char: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == char)
}

/// Whether `::` comes last; a single colon stands before a type.
fn ends_with_separator(tokens: &[TokenTree]) -> bool {
    let [.., TokenTree::Punct(one), TokenTree::Punct(two)] = tokens else {
        return false;
    };
    one.as_char() == ':' && one.spacing() == Spacing::Joint && two.as_char() == ':'
}

fn group(token: Option<&TokenTree>, delimiter: Delimiter) -> Option<TokenStream> {
    match token {
        Some(TokenTree::Group(group)) if group.delimiter() == delimiter => Some(group.stream()),
        _ => None,
    }
}

fn brackets(delimiter: Delimiter) -> (&'static str, &'static str) {
    match delimiter {
        Delimiter::Parenthesis => ("(", ")"),
        Delimiter::Brace => ("{", "}"),
        Delimiter::Bracket => ("[", "]"),
        Delimiter::None => ("", ""),
    }
}

/// Keeps the text of the tokens for [`Module::lines`].
fn note(tokens: &[TokenTree], module: &mut Module) {
    for token in tokens {
        if let TokenTree::Group(group) = token {
            let (open, close) = brackets(group.delimiter());
            write(group.span_open().start().line, open, module);
            let inside: Vec<_> = group.stream().into_iter().collect();
            note(&inside, module);
            write(group.span_close().start().line, close, module);
        } else {
            write(token.span().start().line, &token.to_string(), module);
        }
    }
}

fn write(line: usize, text: &str, module: &mut Module) {
    module.lines.entry(line).or_default().push_str(text);
}
