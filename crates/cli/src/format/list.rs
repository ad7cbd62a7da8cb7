//! Lists of objects: a table, or one template, JSON object or ID a line.

use serde_json::{Map, Value};

use anyhow::Context as _;

use super::{
    table,
    template::{Template, types::Type},
};

/// The columns of a list.
pub struct List<'a> {
    /// Every field that a template may name, and its header.
    pub headers: &'a [(&'a str, &'a str)],
    /// Default template of a table: fields separated by tabs.
    pub default: &'a str,
    /// Template of `--quiet`.
    pub quiet: &'a str,
}

/// A parsed `--format`.
enum Form {
    Table(Template),
    Raw(Template),
}

impl List<'_> {
    /// Renders `rows` as [`List::render`] does. If the root has `several` drivers, the default table has a column for the driver.
    pub fn render_of(
        &self,
        rows: &[Value],
        format: Option<&str>,
        quiet: bool,
        several: bool,
    ) -> anyhow::Result<String> {
        let default = match several {
            true => format!("{}\t{{{{.Driver}}}}", self.default),
            false => self.default.to_owned(),
        };
        List { headers: self.headers, default: &default, quiet: self.quiet }.render(rows, format, quiet)
    }

    /// Renders `rows`, which are JSON objects with the fields of `headers`. The key `Label` of a row is an object that only
    /// `{{.Label "name"}}` reads.
    pub fn render(&self, rows: &[Value], format: Option<&str>, quiet: bool) -> anyhow::Result<String> {
        match self.form(format, quiet)? {
            Form::Raw(template) => {
                let mut out = String::new();
                for row in rows {
                    out.push_str(&template.render_as(row, Type::Row).context("failed to execute template")?);
                    out.push('\n');
                }
                Ok(out)
            }
            Form::Table(template) => {
                let headers: Map<String, Value> =
                    self.headers.iter().map(|(field, header)| ((*field).to_owned(), Value::from(*header))).collect();
                let render = |row: &Value, kind| template.render_as(row, kind).context("failed to execute template");
                let mut lines = vec![render(&Value::Object(headers), Type::Headers)?];
                for row in rows {
                    lines.push(render(row, Type::Row)?);
                }
                let cells: Vec<Vec<String>> =
                    lines.iter().map(|line| line.split('\t').map(str::to_owned).collect()).collect();
                Ok(table::table(&cells))
            }
        }
    }

    /// Parses `--format`: `None` or `table` for the default table, `table TEMPLATE`, `json`, or a template.
    fn form(&self, format: Option<&str>, quiet: bool) -> anyhow::Result<Form> {
        let parse = |text| Template::parse(text).context("failed to parse template");
        Ok(match format {
            None | Some("" | "table") if quiet => Form::Raw(parse(self.quiet)?),
            None | Some("" | "table") => Form::Table(parse(self.default)?),
            Some("json") => Form::Raw(parse("{{json .}}")?),
            Some(text) => match text.strip_prefix("table ") {
                Some(template) => Form::Table(parse(template)?),
                None => Form::Raw(parse(text)?),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn render_gives_a_table_templates_json_or_ids() {
        let list =
            List { headers: &[("ID", "IMAGE ID"), ("Size", "SIZE")], default: "{{.ID}}\t{{.Size}}", quiet: "{{.ID}}" };
        let rows = [json!({"ID": "abc", "Size": "1MB"}), json!({"ID": "def", "Size": "2GB"})];
        let render = |format, quiet| list.render(&rows, format, quiet).unwrap();
        assert_eq!(render(None, false), "IMAGE ID   SIZE\nabc        1MB\ndef        2GB\n");
        assert_eq!(render(None, true), "abc\ndef\n");
        assert_eq!(render(Some("{{.Size}} {{upper .ID}}"), false), "1MB ABC\n2GB DEF\n");
        assert_eq!(render(Some("table {{.Size}}"), false), "SIZE\n1MB\n2GB\n");
        assert_eq!(
            render(Some("json"), false),
            "{\"ID\":\"abc\",\"Size\":\"1MB\"}\n{\"ID\":\"def\",\"Size\":\"2GB\"}\n"
        );
        assert!(list.render(&rows, Some("{{.Nope}}"), false).is_err());
    }
}
