//! The rules of the tokenizer: patterns of tokens and their replacements.

use std::sync::LazyLock;

use regex::{Regex, RegexSet};

/// The token for a match.
pub(super) enum Make {
    /// The match.
    Itself,
    /// The match with ASCII apostrophes.
    Plain,
    /// The match with quotation marks in LaTeX style.
    Quotes,
    /// The match with parentheses spelled out.
    Brackets,
    /// Another token.
    Other(&'static str),
    /// No token.
    Nothing,
}

use Make::{Brackets, Itself, Nothing, Other, Plain, Quotes};

/// Contractions, and where the second word begins.
const PAIRS: [(&str, usize); 6] = [("cannot", 3), ("gonna", 3), ("gotta", 3), ("lemme", 3), ("gimme", 3), ("wanna", 3)];

/// Abbreviations that always keep their period.
const ABBREVIATIONS: &str = "jr|bros|sr|inc|cos?|corp|ltd|plc|rt|bancorp|dept|bhd|assn|univ|intl|sys|invt|elec|natl|\
    m[tf]g|tel|est|ext|sq|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|mon|tues?|wed|thu|thurs|fri|ala|\
    ariz|calif|colo|conn|ct|dak|fla|ga|ind|kans?|ky|md|mich|minn|mo|mont|neb|nev|okla|penn|tenn|va|vt|\
    wisc?|wyo|etc|bldg|blvd|al";

/// Titles and the like, which keep it unless a longer word follows.
const TITLES: &str = "ph\\.d|ph|ft|mr|mrs|ms|drs?|profs?|sens?|reps?|attys?|lt|col|gen|messrs|govs?|adm|rev|maj|sgt|cpl|pvt|mt|\
    capt|ste?|ave|pres|lieut|hon|brig|co?mdr|pfc|spc|supts?|det|vs|alex|wm|jos|cie|cf|treas|rd|mme|\
    mlle|esq";

/// Abbreviations that keep it if capitalised.
const NAMES: &str = "A(?i:z|rk)|D(?i:el)|I(?i:ll)|L(?i:a)|M(?i:ass|iss)|O(?i:re)|P(?i:a)|(?i:pt)[ye]s?|(?i:m)[tf](?i:g)|T(?i:ex)|W(?i:ash)";

/// Words that, after a letter and a period, mark the end of a sentence.
const STARTS: &str = "A(?i:|bout|ccording|dditionally|fter|n|s|t)|B(?i:ut)|E(?i:arlier)|H(?i:e|er|ere|owever)|I(?i:f|n|t)|\
    L(?i:ast)|M(?i:any)|N(?i:ow)|O(?i:nce|ne|ther|ur)|S(?i:he|ince|o|ome|uch)|T(?i:hat|he|heir|hen|here|hese|\
    hey|his)|W(?i:e|hat|hen|hile)|Y(?i:et|ou)";

/// Symbols that are separate tokens.
const SIGNS: &str = concat!(
    r"%&+=<>^_|~\\/\-.\x{a1}\x{a5}-\x{a9}\x{ac}\x{ae}-\x{b1}\x{b4}\x{b6}-\x{b8}\x{bf}\x{d7}\x{f7}\x{387}\x{589}\x{5be}\x{5c0}",
    r"\x{5c3}\x{600}-\x{603}\x{606}-\x{60c}\x{61b}\x{61f}\x{66a}\x{66d}\x{6d4}\x{700}-\x{70d}\x{964}\x{965}\x{e3f}\x{2016}\x{2017}",
    r"\x{201a}\x{201e}-\x{2023}\x{2030}-\x{2038}\x{203b}\x{203e}-\x{2042}\x{2044}\x{20a4}\x{2100}\x{2101}\x{2103}-\x{2106}\x{2108}",
    r"\x{2109}\x{2114}\x{2116}-\x{2118}\x{211e}-\x{2123}\x{2125}\x{2127}\x{2129}\x{212e}\x{213a}\x{213b}\x{2140}-\x{2144}",
    r"\x{214a}-\x{214d}\x{214f}\x{215b}-\x{215e}\x{2155}-\x{215a}\x{2190}-\x{2bff}\x{3001}\x{3002}\x{3012}\x{30fb}\x{ff01}-\x{ff0f}",
    r"\x{ff1a}-\x{ff20}\x{ff3b}-\x{ff40}\x{ff5b}-\x{ff65}\x{ffe0}\x{ffe1}\x{ffe5}\x{ffe6}",
);

/// Macros of rules, in braces. A macro may contain those after it.
const PARTS: [(&str, &str); 11] = [
    ("{WORD}", r"(?:{L}(?:{L}|{DIGIT})*(?:[.!?]{L}(?:{L}|{DIGIT})*)*)"),
    (
        "{THING}",
        r"(?:(?:[dDoOlL]{AE}\pL)?[\pL{DIGIT}]+(?:[_\x{58a}\x{2010}\x{2011}-](?:[dDoOlL]{AE}\pL)?[\pL{DIGIT}]+)*)",
    ),
    ("{ACRO}", r"(?:[A-Za-z](?:\.[A-Za-z])+)"),
    ("{AUX}", r"(?:{A}(?i:[msd]|re|ve|ll))"),
    ("{URL}", r#"[^ \n"<>|(){}]"#),
    ("{L}", r"(?:[{LETTER}]|&[aeiouAEIOU](?:acute|grave|uml);)"),
    ("{LETTER}", r"\p{L}\p{M}\x{ad}\x{2c2}-\x{2c5}\x{2d2}-\x{2df}\x{2e5}-\x{2ff}"),
    ("{DIGIT}", r"\p{Nd}"),
    ("{AE}", r"(?:['’‘‛`\x{91}\x{92}]|&apos;)"),
    ("{A}", r"(?:['’\x{92}]|&apos;)"),
    ("{S}", r"[ \x{a0}\x{2000}-\x{200a}\x{3000}]"),
];

/// Patterns, anchored at the start of a token. If there is a group, it is the token and the rest is lookahead.
#[rustfmt::skip]
const RULES: &[(&str, Make)] = &[
    // Contractions, markup, dashes, entities.
    (r"(?i)('t)(?:is|was)", Itself),
    (r#"<(?:[!?][A-Za-z-][^>\n]*|/?[A-Za-z][A-Za-z0-9_:.-]*(?: +[A-Za-z][A-Za-z0-9_:.-]*(?: *= *(?:'[^'\n]*'|"[^"\n]*"|[A-Za-z0-9][A-Za-z0-9_:.-]*))?)* */?) *>"#, Itself),
    (r"&(?:MD|mdash|ndash);|[\x{96}\x{97}\x{2012}-\x{2015}]|&nbsp;", Nothing),
    (r"(?i)&amp;", Other("&")), (r"(?i)&lt;", Other("<")), (r"(?i)&gt;", Other(">")),
    // Words and their suffixes.
    (r"({WORD}){AUX}", Itself),
    (r"([A-Za-z]*[A-MO-Za-mo-z])(?i:n{AE}t)", Itself),
    (r"((?:(?i:{ABBREVIATION})|{NAME})\.)(?:[^\n\pL][^\n]?|[^\n])", Itself),
    (r"{WORD}|&#[0-9]+;", Itself),
    (r"(?i){A}n{A}?|[ldj]{A}|dunkin{A}|somethin{A}|ol{A}|{A}em|{A}till?|{A}cause|{A}[2-9]0s|c'mon|s'mores|cap{A}n|c{A}est|qu{A}il|[eo]'er|cont'd\.|nor'easter|ev'ry|li'l|nat'l", Itself),
    (r"[A-Za-z]+[aeiouyAEIOUY]{AE}[aeiouA-Z]\pL*|[A-HJ-XZn]{AE}[{LETTER}]{2,}", Itself),
    (r"([yY]{A})[A-Za-z]", Itself),
    // Addresses and tags.
    (r"(?i)https?://{URL}+[^ \n\x22<>|.!?(){},-]", Itself),
    (r"(?:(?i:www)\.(?:[^ \n\x22<>|.!?(){},]+\.)+[a-zA-Z]{2,4}|(?:[^ \n\x22`'<>|!?(){}$\x2c-\x5f]+\.)+(?i:com|net|org|edu))(?:/{URL}+[^ \n\x22<>|.!?(){},-])?", Itself),
    (r"(?:&lt;|<)?[a-zA-Z0-9][^ \n\x22<>|(){}\x{a0}]*@(?:[^ \n\x22<>|(){}.\x{a0}]+\.)*[^ \n\x22<>|(){}.\x{a0}]+(?:&gt;|>)?", Itself),
    (r"@[a-zA-Z_][a-zA-Z_0-9]*|#[{LETTER}]+", Itself),
    (r"({AUX})[^A-Za-z]", Plain),
    (r"(?i)n{AE}t", Plain),
    // Numbers, amounts, dates.
    (r"{DIGIT}{1,2}[-/]{DIGIT}{1,2}[-/]{DIGIT}{2,4}", Itself),
    (r"[-+]?(?:{DIGIT}*(?:[.:,\x{ad}]{DIGIT}+)+|{DIGIT}+)", Itself),
    (r"[⁺⁻₊₋]?(?:[⁰¹²³⁴-⁹]+|[₀-₉]+)", Itself),
    (r"(?:{DIGIT}{1,4}[- \x{a0}])?{DIGIT}{1,4}(?:\\?/|\x{2044}){DIGIT}{1,4}", Itself),
    ("¼", Other("1/4")), ("½", Other("1/2")), ("¾", Other("3/4")), ("⅓", Other("1/3")), ("⅔", Other("2/3")),
    (r"[A-Z]*\$|#", Itself), ("¢", Other("cents")), ("£", Other("#")), (r"[¤€₠\x{80}]", Other("$")),
    (r"(?:\([0-9]{2,3}\)[ \x{a0}]?|(?:\+\+?)?(?:[0-9]{2,4}[- \x{a0}])?[0-9]{2,4}[- \x{a0}])[0-9]{3,4}[- \x{a0}]?[0-9]{3,5}|(?:(?:\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}", Brackets),
    // Abbreviations and names of files.
    (r"(?:(?i:{ABBREVIATION}|{TITLE})|{NAME})\.", Itself),
    (r"([A-Za-z])\.(?: |\x{a0})+(?:(?:{START})[ \n\x{a0}]|</?[A-Za-z][^<>\n]*>[ \n])", Itself),
    (r"(?:(?:Canada|Sino|Korean|EU|Japan|non)-U\.S|{ACRO})\.", Itself),
    (r"([A-Za-z]\.)[^\n]", Itself),
    (r"(?i)((?:ca|figs?|prop|nos?|art|pp?|op|seq)\.){S}?{DIGIT}", Itself),
    (r"({A}{DIGIT}{2})[ \n\x{a0}]", Itself),
    (r"(?i)([{LETTER}{DIGIT}]+(?:\.[{LETTER}{DIGIT}]+)*\.(?:bat|bmp|c|class|cgi|cpp|dll|doc|docx|exe|gif|gz|h|htm|html|jar|java|jpeg|jpg|mov|mp3|pdf|php|pl|png|ppt|ps|py|sql|tar|txt|wav|x|xml|zip))[ \n.?!,]", Itself),
    (r"((?:{WORD}|{THING})\.)[,;:\x{3001}]", Itself),
    // Quotation marks, which are dropped.
    (r#"(')[A-Za-z][^ \n\x{a0}]|"|&quot;|''?|&apos;"#, Nothing),
    (r"[`‘-‟‹›«»\x{82}-\x{84}\x{91}-\x{94}]{1,2}", Quotes), (r"(?i)&quot;", Itself),
    (r"{AUX}", Plain),
    // Emoticons.
    (r"([<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]])[^A-Za-z0-9]", Brackets),
    (r"[\^x=~<>]\.\[\^x=~<>]|[-^x=~<>']_[-^x=~<>']|\([-^x=~<>'][_.]?[-^x=~<>']\)|\([\^x=~<>']-[\^x=~<>'`]\)", Brackets),
    ("\\(", Other("-lrb-")), ("\\)", Other("-rrb-")), ("\\[", Other("-lsb-")), ("\\]", Other("-rsb-")), ("\\{", Other("-lcb-")), ("\\}", Other("-rcb-")),
    (r"\.{3,5}|(?:\.[ \x{a0}]){2,4}\.|…|-+|[,;:]", Nothing),
    (r"@+|#+|\\\*|\*+|[?!]+|<<|>>|_+", Itself),
    // Words with symbols.
    (r"(?i:C\+\+|[CF]#)", Itself),
    (r"[A-Z]+(?:(?:[+&]|(?i:&amp;))[A-Z]+)+", Itself),
    (r"(?i)-[LR][RCS]B-|pro-|anti-|S(?:&|&amp;)P-500|C\.D\.s", Itself),
    (r"{THING}", Itself),
    (r"([A-Za-z0-9][A-Za-z0-9.,\x{ad}]*(?:-(?:{ACRO}\.|[A-Za-z0-9\x{ad}]+))+)", Itself),
    (r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}(?:\\?/[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}){1,2}", Itself),
    (r"[{SIGN}]", Itself),
];

static COMPILED: LazyLock<Option<(RegexSet, Vec<Regex>)>> = LazyLock::new(|| {
    let patterns: Vec<String> = RULES.iter().map(|(rule, _)| anchored(rule)).collect();
    let pairs = PAIRS.map(|(word, first)| anchored(&format!("(?i)({}){}", &word[..first], &word[first..])));
    let all: Vec<String> = pairs.into_iter().chain(patterns).collect();
    let each = all.iter().map(|pattern| Regex::new(pattern)).collect::<Result<_, _>>().ok()?;
    Some((RegexSet::new(&all).ok()?, each))
});

fn anchored(rule: &str) -> String {
    let parts = [
        ("{ABBREVIATION}", ABBREVIATIONS),
        ("{TITLE}", TITLES),
        ("{NAME}", NAMES),
        ("{START}", STARTS),
        ("{SIGN}", SIGNS),
    ];
    let filled = PARTS.iter().chain(&parts).fold(rule.to_owned(), |rule, (name, part)| rule.replace(name, part));
    format!(r"\A(?:{filled})")
}

/// Whether a word is a contraction of two.
pub(super) fn is_pair(word: &str) -> bool {
    PAIRS.iter().any(|(pair, _)| pair.eq_ignore_ascii_case(word))
}

/// Bytes in which a match is first looked for: a rule that reads on to the end of a long text, at every token, would take
/// quadratic time. A match that reaches the end is looked for in twice as many.
const WINDOW: usize = 4096;

/// The longest match at the start of a text: the length of its token, and its replacement.
pub(super) fn longest(text: &str) -> Option<(usize, &'static Make)> {
    let mut window = WINDOW;
    let (_, token, rule) = loop {
        let part = &text[..text.floor_char_boundary(window)];
        let best = longest_in(part)?;
        if best.0 < part.len() || part.len() == text.len() {
            break best;
        }
        window *= 2;
    };
    let make = rule.checked_sub(PAIRS.len()).map_or(&Itself, |rule| &RULES[rule].1);
    (token > 0).then_some((token, make))
}

/// The length of the longest match at the start of a text and of its token, and the rule.
fn longest_in(text: &str) -> Option<(usize, usize, usize)> {
    let (set, each) = COMPILED.as_ref()?;
    let mut best: Option<(usize, usize, usize)> = None;
    for rule in set.matches(text) {
        let Some(found) = each[rule].captures(text) else { continue };
        let whole = found.get(0).map_or(0, |whole| whole.end());
        let token = found.iter().skip(1).flatten().next().map_or(whole, |part| part.end());
        if best.is_none_or(|(longest, ..)| whole > longest) {
            best = Some((whole, token, rule));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_rules_compile() {
        for (rule, _) in RULES {
            Regex::new(&anchored(rule)).unwrap();
        }
        assert!(COMPILED.is_some());
    }
}
