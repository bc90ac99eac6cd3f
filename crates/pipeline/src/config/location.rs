//! Where a source's logs are: a file, a folder with all below it, a glob, or objects of a bucket
//! (`s3://bucket/prefix`). Which files lie there, and whether two locations can have files in common.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};

use crate::input::{self, Input, OBJECT_VERSION};

/// As [`glob::glob`] matches: `*` stays in its folder.
const MATCHING: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// What the location of objects of a bucket begins with.
const BUCKET: &str = "s3://";

/// A declared location.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Location {
    text: String,
    /// The folder that it leads from.
    folder: PathBuf,
    parts: Vec<Part>,
}

impl Location {
    /// The location of that text, relative to `folder`.
    ///
    /// # Errors
    /// What was expected instead.
    pub fn new(text: &str, folder: &Path) -> Result<Self, String> {
        if text.is_empty() || text.contains('\0') {
            return Err("expected a file, folder or glob, found none".to_owned());
        }
        if text == "-" {
            return Err("standard input is no place to come back to, expected a path".to_owned());
        }
        if text == "~" || text.starts_with("~/") {
            return Err("`~` is not replaced by a home folder, expected the whole path".to_owned());
        }
        if has_magic(text) {
            Pattern::new(text)
                .map_err(|e| format!("`{text}` is no glob: {} at its character {}", e.msg, e.pos))?;
        }
        let base = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
        let whole = text.starts_with('/') || text.starts_with(BUCKET);
        let parts = if whole { Vec::new() } else { literal(&base.to_string_lossy()) };
        Ok(Self { text: text.to_owned(), folder: folder.to_path_buf(), parts: pattern(parts, text) })
    }

    /// As it is declared.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The path or glob, from the folder that it leads from.
    pub fn path(&self) -> PathBuf {
        self.folder.join(&self.text)
    }

    /// The files that lie there now, in byte order of their paths; none where there is nothing yet, or objects of a bucket.
    pub fn inputs(&self) -> Vec<Input> {
        if self.text.starts_with(BUCKET) {
            return Vec::new();
        }
        let path = self.path();
        if !self.is_glob() {
            return if path.exists() { input::below(&path, &|_| false) } else { Vec::new() };
        }
        let paths = glob::glob(&joined(&self.folder, &self.text)).into_iter().flatten();
        // A folder that the glob could not look into is an input that cannot be read.
        let mut paths: Vec<PathBuf> = paths.map(|p| p.unwrap_or_else(|e| e.path().to_path_buf())).collect();
        paths.sort();
        paths.iter().flat_map(|p| input::below(p, &|_| false)).collect()
    }

    /// Names with `*`, `?` or `[` in them exist, too.
    fn is_glob(&self) -> bool {
        has_magic(&self.text) && !self.path().exists()
    }

    /// The place as the file system has it now, to ask which files lie in it.
    ///
    /// # Errors
    /// The current folder cannot be told.
    pub fn place(&self) -> io::Result<Place> {
        if self.text.starts_with(BUCKET) {
            let glob = || Pattern::new(&self.text).map_err(io::Error::other);
            let path = || PathBuf::from(&self.text);
            return Ok(match has_magic(&self.text) {
                true => Place::Glob(glob()?, glob()?),
                false => Place::Path(path(), path()),
            });
        }
        let whole = self.path();
        if !self.is_glob() {
            return Ok(Place::Path(std::path::absolute(&whole)?, real(&whole)?));
        }
        // What stands before the first part that means more than itself.
        let fixed: PathBuf =
            Path::new(&self.text).iter().take_while(|p| !has_magic(&p.to_string_lossy())).collect();
        let rest = self.text[fixed.as_os_str().len()..].trim_start_matches('/');
        let fixed = self.folder.join(&fixed);
        let pattern = |folder: &Path| Pattern::new(&joined(folder, rest)).map_err(io::Error::other);
        Ok(Place::Glob(pattern(&std::path::absolute(&fixed)?)?, pattern(&real(&fixed)?)?))
    }

    /// Whether a file can lie in both, as they are written: links may lead from one to the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        // Both patterns are automata: some path leads both to their ends, or none does.
        let mut seen = HashSet::new();
        let mut open = vec![(State::default(), State::default())];
        while let Some((a, b)) = open.pop() {
            if !seen.insert((a, b)) {
                continue;
            }
            let (Some(part), Some(other_part)) = (self.parts.get(a.at), other.parts.get(b.at)) else {
                // An end is met by what can be empty alone.
                if a.at == self.parts.len() && b.at == other.parts.len() {
                    return true;
                }
                open.extend(self.parts.get(a.at).and_then(|p| p.skipped(a)).map(|a| (a, b)));
                open.extend(other.parts.get(b.at).and_then(|p| p.skipped(b)).map(|b| (a, b)));
                continue;
            };
            open.extend(part.skipped(a).map(|a| (a, b)));
            open.extend(other_part.skipped(b).map(|b| (a, b)));
            for (x, a) in part.taking(a) {
                open.extend(
                    other_part.taking(b).into_iter().filter(|(y, _)| x.meets(y)).map(|(_, b)| (a, b)),
                );
            }
        }
        false
    }
}

/// A location as the file system has it at one moment.
#[derive(Clone, Debug)]
pub enum Place {
    /// A file or folder: as it is written, and without links.
    Path(PathBuf, PathBuf),
    /// A glob: as it is written, and without links before its first `*`, `?` or `[`.
    Glob(Pattern, Pattern),
}

impl Place {
    /// Whether a file lies there.
    pub fn holds(&self, file: &File) -> bool {
        match self {
            Self::Path(written, real) => file.written.starts_with(written) || file.real.starts_with(real),
            // What the glob names may be a folder above the file.
            Self::Glob(written, real) => [(written, &file.written), (real, &file.real)]
                .iter()
                .any(|(glob, path)| path.ancestors().any(|p| glob.matches_path_with(p, MATCHING))),
        }
    }
}

/// The path of a file, to compare with places.
#[derive(Clone, Debug)]
pub struct File {
    written: PathBuf,
    real: PathBuf,
}

impl File {
    /// The file at a path.
    pub fn at(path: &Path) -> io::Result<Self> {
        Ok(Self { written: std::path::absolute(path)?, real: real(path)? })
    }

    /// The object of that name, whatever its version.
    pub fn object(name: &str) -> Self {
        let name = PathBuf::from(name.split(OBJECT_VERSION).next().unwrap_or_default());
        Self { written: name.clone(), real: name }
    }
}

/// A path without links; what is not there stays as it is written.
fn real(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    for there in path.ancestors() {
        if let Ok(found) = there.canonicalize() {
            return Ok(match path.strip_prefix(there) {
                Ok(rest) if rest.as_os_str().is_empty() => found,
                Ok(rest) => found.join(rest),
                Err(_) => path,
            });
        }
    }
    Ok(path)
}

fn has_magic(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// A glob that leads from a folder, whose own name means nothing but itself.
fn joined(folder: &Path, glob: &str) -> String {
    if glob.starts_with('/') || folder.as_os_str().is_empty() {
        return glob.to_owned();
    }
    format!("{}/{glob}", Pattern::escape(folder.to_string_lossy().trim_end_matches('/')))
}

/// A part of a location as it is written.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    /// This character.
    Char(char),
    /// One that is no slash, any or of a class as `[a-c]`.
    One(Option<Pattern>),
    /// Any number of characters that are no slash.
    Many,
    /// Any number of whole folders, each with its slash.
    Folders,
    /// Nothing, or a slash and what is below.
    Below,
}

/// How far a path has led, and whether into the middle of what [`Part::Folders`] or [`Part::Below`] are for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
struct State {
    at: usize,
    inside: bool,
}

/// The next character of a path.
enum Next<'a> {
    Is(char),
    OfClass(&'a Pattern),
    NoSlash,
    Any,
}

impl Part {
    /// The state behind it, where no more of a path has to belong to it.
    fn skipped(&self, state: State) -> Option<State> {
        let next = State { at: state.at + 1, inside: false };
        match self {
            Self::Many | Self::Below => Some(next),
            Self::Folders if !state.inside => Some(next),
            Self::Folders | Self::Char(_) | Self::One(_) => None,
        }
    }

    /// What it takes next, and where that leads.
    fn taking(&self, state: State) -> Vec<(Next<'_>, State)> {
        let next = State { at: state.at + 1, inside: false };
        let inside = State { inside: true, ..state };
        match self {
            Self::Char(c) => vec![(Next::Is(*c), next)],
            Self::One(None) => vec![(Next::NoSlash, next)],
            Self::One(Some(class)) => vec![(Next::OfClass(class), next)],
            Self::Many => vec![(Next::NoSlash, state)],
            Self::Folders if state.inside => {
                vec![(Next::NoSlash, state), (Next::Is('/'), State { inside: false, ..state })]
            }
            Self::Folders => vec![(Next::NoSlash, inside)],
            Self::Below if state.inside => vec![(Next::Any, state)],
            Self::Below => vec![(Next::Is('/'), inside)],
        }
    }
}

impl Next<'_> {
    /// Whether one character can be both.
    fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Is(a), Self::Is(b)) => a == b,
            (Self::Is('/'), Self::NoSlash | Self::OfClass(_))
            | (Self::NoSlash | Self::OfClass(_), Self::Is('/')) => false,
            (Self::Is(c), Self::OfClass(class)) | (Self::OfClass(class), Self::Is(c)) => {
                class.matches(c.encode_utf8(&mut [0; 4]))
            }
            // Classes are unions of ranges: where two meet, they do so at or beside an end of one.
            (Self::OfClass(a), Self::OfClass(b)) => {
                let ends = a.as_str().chars().chain(b.as_str().chars());
                let beside =
                    |c: char| [-1i32, 0, 1].map(|by| char::from_u32((c as u32).saturating_add_signed(by)));
                ends.flat_map(beside).flatten().filter(|c| *c != '/').any(|c| {
                    let mut bytes = [0; 4];
                    let c: &str = c.encode_utf8(&mut bytes);
                    a.matches(c) && b.matches(c)
                })
            }
            (Self::NoSlash | Self::Any, _) | (_, Self::NoSlash | Self::Any) => true,
        }
    }
}

/// The parts of a path without meaning beyond itself, with slashes between its names alone.
fn literal(path: &str) -> Vec<Part> {
    names(path).flat_map(|n| std::iter::once('/').chain(n.chars())).map(Part::Char).collect()
}

fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|n| !n.is_empty() && *n != ".")
}

/// `parts` with those of a path or glob behind them. What a glob names is taken for files, as nearly all are:
/// `**/*.log` and `**/*.json` share none, but for a folder `a.log` with a `b.json` in it.
fn pattern(mut parts: Vec<Part>, text: &str) -> Vec<Part> {
    let mut after_folders = false;
    for name in names(text) {
        if !after_folders {
            parts.push(Part::Char('/'));
        }
        after_folders = name == "**";
        if after_folders {
            parts.push(Part::Folders);
        } else {
            push_name(&mut parts, name);
        }
    }
    match (after_folders, has_magic(text)) {
        (true, _) => parts.push(Part::Many),
        (false, false) => parts.push(Part::Below),
        (false, true) => {}
    }
    parts
}

fn push_name(parts: &mut Vec<Part>, name: &str) {
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        let mut taken = c.len_utf8();
        parts.push(match c {
            '*' => Part::Many,
            '?' => Part::One(None),
            '[' => {
                // A `]` that stands first is one of the class.
                let from = if rest[1..].starts_with('!') { 3 } else { 2 };
                let end = rest.char_indices().find(|(at, c)| *at >= from && *c == ']');
                taken = end.map_or(rest.len(), |(at, _)| at + 1);
                Part::One(Pattern::new(&rest[..taken]).ok())
            }
            c => Part::Char(c),
        });
        rest = &rest[taken..];
    }
}
