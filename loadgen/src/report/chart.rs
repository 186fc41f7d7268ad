//! Line charts as SVG text.
//!
//! Always true: a chart refers to nothing outside itself; colours are names of the page's style
//! (`c1` to `c4`), so that it can be read on light and on dark; and values that a scale cannot
//! show (none above 0 on a logarithmic one) are left out, never invented.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 44.0;

/// Points up to which each is marked.
const MARKED_MAX: usize = 60;

/// Ticks of a linear axis, about.
const TICKS: f64 = 5.0;

/// How values are laid out along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Evenly, from 0.
    Linear,
    /// By powers of ten.
    Log,
    /// Shares below 1 by the distance to 1: 0, 90 %, 99 % and so on stand evenly.
    Percentile,
}

/// One axis.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it shows, with the unit.
    pub label: &'static str,
    /// How.
    pub scale: Scale,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// x and y.
    pub points: Vec<(f64, f64)>,
    /// Whether each point is to be doubted; empty for none.
    pub doubted: Vec<bool>,
}

impl Line {
    /// A line of which nothing is doubted.
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self {
            name: name.into(),
            points,
            doubted: Vec::new(),
        }
    }
}

/// Values of an axis into places.
struct Ruler {
    scale: Scale,
    from: f64,
    to: f64,
}

impl Ruler {
    fn new(scale: Scale, values: impl Iterator<Item = f64>) -> Self {
        let (mut from, mut to) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values {
            if let Some(place) = placed(scale, value) {
                from = from.min(place);
                to = to.max(place);
            }
        }
        if from > to {
            (from, to) = (0.0, 1.0);
        }
        match scale {
            Scale::Linear => {
                from = from.min(0.0);
                to = if to > from { to * 1.05 } else { from + 1.0 };
            }
            Scale::Log => {
                from = from.floor();
                to = to.ceil().max(from + 1.0);
            }
            Scale::Percentile => {
                from = 0.0;
                to = to.max(1.0);
            }
        }
        Self { scale, from, to }
    }

    /// Between 0 and 1 for values inside.
    fn at(&self, value: f64) -> Option<f64> {
        placed(self.scale, value).map(|place| (place - self.from) / (self.to - self.from))
    }

    /// Values with a label.
    fn ticks(&self) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Linear => {
                let raw = (self.to - self.from) / TICKS;
                let power = 10_f64.powf(raw.log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0]
                    .into_iter()
                    .map(|factor| factor * power)
                    .find(|step| *step >= raw)
                    .unwrap_or(raw);
                let count = ((self.to - self.from) / step) as usize;
                (0..=count)
                    .map(|index| self.from + step * index as f64)
                    .map(|value| (value, short(value)))
                    .collect()
            }
            Scale::Log => (self.from as i32..=self.to as i32)
                .map(|power| 10_f64.powi(power))
                .map(|value| (value, short(value)))
                .collect(),
            Scale::Percentile => (0..=self.to.floor() as i32)
                .map(|nines| {
                    let value = 1.0 - 10_f64.powi(-nines);
                    let label = match nines {
                        0 => "0 %".into(),
                        1 => "90 %".into(),
                        nines => format!("{:.*} %", nines as usize - 2, value * 100.0),
                    };
                    (value, label)
                })
                .collect(),
        }
    }
}

fn placed(scale: Scale, value: f64) -> Option<f64> {
    let place = match scale {
        Scale::Linear => value,
        Scale::Log => value.log10(),
        Scale::Percentile => -(1.0 - value).log10(),
    };
    place.is_finite().then_some(place)
}

/// A number with few characters.
fn short(value: f64) -> String {
    let size = value.abs();
    let trimmed = |text: String| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text,
    };
    if size >= 1e6 {
        format!("{} M", trimmed(format!("{:.2}", value / 1e6)))
    } else if size >= 1e4 {
        format!("{} k", trimmed(format!("{:.1}", value / 1e3)))
    } else {
        trimmed(format!("{value:.6}"))
    }
}

/// Text that may stand in a page.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// A figure with its title, legend and chart.
pub fn figure(title: &str, note: &str, x: &Axis, y: &Axis, lines: &[Line]) -> String {
    let mut out = String::new();
    write(title, note, x, y, lines, &mut out).expect("a string takes any text");
    out
}

fn write(
    title: &str,
    note: &str,
    x: &Axis,
    y: &Axis,
    lines: &[Line],
    out: &mut String,
) -> std::fmt::Result {
    let across = Ruler::new(x.scale, values(lines, |point| point.0));
    let up = Ruler::new(y.scale, values(lines, |point| point.1));
    let place_x = |value: f64| Some(LEFT + across.at(value)? * (WIDTH - LEFT - RIGHT));
    let place_y = |value: f64| Some(HEIGHT - BOTTOM - up.at(value)? * (HEIGHT - TOP - BOTTOM));
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    writeln!(out, "<figure>\n<figcaption>{}</figcaption>", escaped(title))?;
    if !note.is_empty() {
        writeln!(out, "<p class=\"note\">{}</p>", escaped(note))?;
    }
    writeln!(out, "<ul class=\"legend\">")?;
    for (index, line) in lines.iter().enumerate() {
        let class = class(index);
        let name = escaped(&line.name);
        writeln!(out, "<li><span class=\"swatch {class}\"></span>{name}</li>")?;
    }
    writeln!(out, "</ul>\n<div class=\"scroll\">")?;
    writeln!(
        out,
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
        escaped(title)
    )?;
    for (value, label) in up.ticks() {
        let Some(at) = place_y(value) else { continue };
        writeln!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"tick\" text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
            LEFT - 8.0,
            at + 4.0
        )?;
    }
    for (value, label) in across.ticks() {
        let Some(at) = place_x(value) else { continue };
        writeln!(
            out,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
             <text class=\"tick\" text-anchor=\"middle\" x=\"{at:.1}\" y=\"{:.1}\">{label}</text>",
            bottom + 17.0
        )?;
    }
    writeln!(
        out,
        "<text class=\"label\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\
         <text class=\"label\" text-anchor=\"middle\" transform=\"translate(14 {:.1}) rotate(-90)\">{}</text>",
        (LEFT + right) / 2.0,
        HEIGHT - 6.0,
        escaped(x.label),
        (TOP + bottom) / 2.0,
        escaped(y.label)
    )?;
    for (index, line) in lines.iter().enumerate() {
        let class = class(index);
        let mut path = String::new();
        let mut marks = String::new();
        for (place, &(value_x, value_y)) in line.points.iter().enumerate() {
            let (Some(at_x), Some(at_y)) = (place_x(value_x), place_y(value_y)) else {
                continue;
            };
            let step = if path.is_empty() { 'M' } else { 'L' };
            write!(path, "{step}{at_x:.1} {at_y:.1}")?;
            let doubted = line.doubted.get(place).copied().unwrap_or(false);
            if line.points.len() <= MARKED_MAX {
                let state = if doubted { "hollow" } else { "mark" };
                write!(
                    marks,
                    "<circle class=\"{state} {class}\" cx=\"{at_x:.1}\" cy=\"{at_y:.1}\" r=\"3.5\"/>"
                )?;
            }
        }
        writeln!(out, "<path class=\"line {class}\" d=\"{path}\"/>{marks}")?;
    }
    writeln!(out, "</svg></div></figure>")
}

fn values<'a>(lines: &'a [Line], of: fn(&(f64, f64)) -> f64) -> impl Iterator<Item = f64> + 'a {
    lines
        .iter()
        .flat_map(move |line| line.points.iter().map(of))
}

fn class(index: usize) -> String {
    format!("c{}", index % 4 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_axis_has_its_nines_evenly() {
        let ruler = Ruler::new(Scale::Percentile, [0.5, 0.9999].into_iter());
        let labels: Vec<String> = ruler.ticks().into_iter().map(|(_, label)| label).collect();
        assert_eq!(labels[..4], ["0 %", "90 %", "99 %", "99.9 %"]);
        let at = |value| ruler.at(value).unwrap();
        assert!((at(0.99) - at(0.9) - (at(0.9) - at(0.0))).abs() < 1e-9);
        assert_eq!(ruler.at(1.0), None);
    }

    #[test]
    fn a_linear_axis_begins_at_0_and_has_round_steps() {
        let ruler = Ruler::new(Scale::Linear, [900.0, 12_345.0].into_iter());
        let labels: Vec<String> = ruler.ticks().into_iter().map(|(_, label)| label).collect();
        assert_eq!(labels, ["0", "5000", "10 k"]);
    }

    #[test]
    fn a_figure_of_nothing_is_still_a_figure() {
        let axis = Axis {
            label: "x",
            scale: Scale::Log,
        };
        let lines = [Line::new("<none>", vec![(0.0, 0.0)])];
        let text = figure("a & b", "", &axis, &axis, &lines);
        assert!(
            text.contains("a &amp; b") && text.contains("&lt;none&gt;"),
            "{text}"
        );
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    }
}
