//! The files of the pages, which are part of the program. Charts and looks are those of reports.

use super::http::Response;

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Name, media type and content.
const FILES: [(&str, &str, &str); 18] = [
    ("page.css", "text/css; charset=utf-8", include_str!("../report/page/assets/page.css")),
    ("chart.css", "text/css; charset=utf-8", include_str!("../report/page/assets/chart.css")),
    ("view.css", "text/css; charset=utf-8", include_str!("assets/view.css")),
    ("icon.svg", "image/svg+xml", include_str!("assets/icon.svg")),
    ("main.js", SCRIPT, include_str!("assets/main.js")),
    ("data.js", SCRIPT, include_str!("assets/data.js")),
    ("dom.js", SCRIPT, include_str!("../report/page/assets/dom.js")),
    ("format.js", SCRIPT, include_str!("../report/page/assets/format.js")),
    ("filter.js", SCRIPT, include_str!("assets/filter.js")),
    ("chart.js", SCRIPT, include_str!("../report/page/assets/chart.js")),
    ("curves.js", SCRIPT, include_str!("../report/page/assets/curves.js")),
    ("runs.js", SCRIPT, include_str!("assets/runs.js")),
    ("run.js", SCRIPT, include_str!("assets/run.js")),
    ("drawings.js", SCRIPT, include_str!("assets/drawings.js")),
    ("compare.js", SCRIPT, include_str!("assets/compare.js")),
    ("recordings.js", SCRIPT, include_str!("assets/recordings.js")),
    ("parallel.js", SCRIPT, include_str!("assets/parallel.js")),
    ("sweep.js", SCRIPT, include_str!("assets/sweep.js")),
];

/// The page, in which scripts show what the address names.
pub fn page() -> Response {
    Response::new("text/html; charset=utf-8", include_str!("assets/index.html"))
}

/// A file by its name.
pub fn find(name: &str) -> Option<Response> {
    let (_, kind, text) = FILES.iter().find(|(file, ..)| *file == name)?;
    Some(Response::new(kind, *text))
}
