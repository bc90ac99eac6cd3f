//! Rows of YAML: a sequence of mappings with scalars, or sequences of scalars, as values.
//!
//! Values are taken as they stand, so an account of digits keeps its zeros. What makes YAML large on reading
//! (anchors, aliases) is refused.

use keytrail_model::table::{Cell, Record};
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use crate::MAX_COLUMNS;
use crate::problem::Problem;
use crate::table::Each;

/// Hands over the rows.
pub(crate) fn read(bytes: &[u8], each: &mut Each<'_>) -> Result<(), Problem> {
    let text = std::str::from_utf8(bytes).map_err(|_| Problem::of_file("expected UTF-8"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut rows = Rows { events: Parser::new_from_str(text), number: 0 };
    rows.stream(each)
}

type Events<'t> = Parser<'t, saphyr_parser::StrInput<'t>>;

struct Rows<'t> {
    events: Events<'t>,
    /// Of the current row.
    number: u64,
}

const EXPECTED: &str = "expected a list of rows, each with `column: value`";

impl<'t> Rows<'t> {
    fn next(&mut self) -> Result<(Event<'t>, u64), Problem> {
        let broken = |e: &ScanError| Problem {
            line: Some(e.marker().line() as u64),
            ..Problem::of_file(format!("no YAML: {}", e.info()))
        };
        match self.events.next() {
            None => Ok((Event::StreamEnd, 0)),
            Some(Err(e)) => Err(broken(&e)),
            Some(Ok((event, Span { start, .. }))) => {
                let line = start.line() as u64;
                let anchored = match &event {
                    Event::Alias(_) => true,
                    Event::Scalar(_, _, anchor, _)
                    | Event::SequenceStart(anchor, _)
                    | Event::MappingStart(anchor, _) => *anchor > 0,
                    _ => false,
                };
                if anchored {
                    return Err(self.wrong(line, "anchors and aliases are not read, expected plain values"));
                }
                Ok((event, line))
            }
        }
    }

    fn wrong(&self, line: u64, message: &str) -> Problem {
        let row = (self.number > 0).then_some(self.number);
        Problem { row, line: Some(line), ..Problem::of_file(message) }
    }

    fn stream(&mut self, each: &mut Each<'_>) -> Result<(), Problem> {
        let mut documents = 0;
        loop {
            let (event, line) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(()),
                Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        return Err(self.wrong(line, "expected one document"));
                    }
                }
                Event::SequenceStart(..) => self.rows(each)?,
                // An empty file with a comment or `---`.
                Event::Scalar(text, ScalarStyle::Plain, ..) if is_null(&text) => {}
                _ => return Err(self.wrong(line, EXPECTED)),
            }
        }
    }

    fn rows(&mut self, each: &mut Each<'_>) -> Result<(), Problem> {
        loop {
            let (event, line) = self.next()?;
            match event {
                Event::SequenceEnd => return Ok(()),
                Event::MappingStart(..) => {
                    self.number += 1;
                    let cells = self.row()?;
                    each(&Record { number: self.number, line: Some(line), cells })?;
                }
                _ => {
                    self.number += 1;
                    return Err(self.wrong(line, EXPECTED));
                }
            }
        }
    }

    fn row(&mut self) -> Result<Vec<(String, Cell)>, Problem> {
        let mut cells: Vec<(String, Cell)> = Vec::new();
        loop {
            let (event, line) = self.next()?;
            let name = match event {
                Event::MappingEnd => return Ok(cells),
                Event::Scalar(name, ..) => name.into_owned(),
                _ => return Err(self.wrong(line, EXPECTED)),
            };
            if cells.len() >= MAX_COLUMNS {
                return Err(self.wrong(line, &format!("expected at most {MAX_COLUMNS} names in one row")));
            }
            if cells.iter().any(|(known, _)| *known == name) {
                let twice = self.wrong(line, "stands twice in one row");
                return Err(Problem { column: name, ..twice });
            }
            let (event, line) = self.next()?;
            let cell = match event {
                Event::Scalar(text, style, ..) => scalar(&text, style),
                Event::SequenceStart(..) => self.list()?,
                Event::MappingStart(..) => {
                    let nested = self.wrong(line, "expected a value, found a mapping");
                    return Err(Problem { column: name, ..nested });
                }
                _ => return Err(self.wrong(line, EXPECTED)),
            };
            cells.push((name, cell));
        }
    }

    fn list(&mut self) -> Result<Cell, Problem> {
        let mut items = Vec::new();
        loop {
            let (event, line) = self.next()?;
            match event {
                Event::SequenceEnd => return Ok(Cell::List(items)),
                Event::Scalar(text, ..) => items.push(text.into_owned()),
                _ => return Err(self.wrong(line, "expected a list of texts")),
            }
        }
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

fn scalar(text: &str, style: ScalarStyle) -> Cell {
    match text {
        _ if style != ScalarStyle::Plain => Cell::Text(text.to_owned()),
        null if is_null(null) => Cell::Null,
        "true" | "True" | "TRUE" => Cell::Bool(true),
        "false" | "False" | "FALSE" => Cell::Bool(false),
        _ => Cell::Text(text.to_owned()),
    }
}
