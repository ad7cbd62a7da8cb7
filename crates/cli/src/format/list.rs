//! Lists as Docker shows them: a table by default, a template a line, JSON a line, or IDs alone.

use serde_json::{Map, Value};

use super::{
    table,
    template::{Template, types::Type},
};

/// What a list can show and how it does by default.
pub struct List<'a> {
    /// Field and its header, of everything a template can name.
    pub headers: &'a [(&'a str, &'a str)],
    /// The default template, without `table`: fields parted by tabs.
    pub default: &'a str,
    /// The template of `--quiet`.
    pub quiet: &'a str,
}

/// Reads `--format`: `None` or `table` for the default table, `table TEMPLATE`, `json`, or a template.
enum Form {
    Table(Template),
    Raw(Template),
}

impl List<'_> {
    /// As [`List::render`]; of `several` drivers the default table ends in a column that tells them apart.
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

    /// Renders `rows`, each an object of the fields in `headers`. What a row has under the key `Label`, an object, is for
    /// `{{.Label "name"}}` alone.
    pub fn render(&self, rows: &[Value], format: Option<&str>, quiet: bool) -> anyhow::Result<String> {
        match self.form(format, quiet)? {
            Form::Raw(template) => {
                let mut out = String::new();
                for row in rows {
                    out.push_str(&template.render_as(row, Type::Row)?);
                    out.push('\n');
                }
                Ok(out)
            }
            Form::Table(template) => {
                let headers: Map<String, Value> =
                    self.headers.iter().map(|(field, header)| ((*field).to_owned(), Value::from(*header))).collect();
                let mut lines = vec![template.render_as(&Value::Object(headers), Type::Headers)?];
                for row in rows {
                    lines.push(template.render_as(row, Type::Row)?);
                }
                let cells: Vec<Vec<String>> =
                    lines.iter().map(|line| line.split('\t').map(str::to_owned).collect()).collect();
                Ok(table::table(&cells))
            }
        }
    }

    fn form(&self, format: Option<&str>, quiet: bool) -> anyhow::Result<Form> {
        Ok(match format {
            None | Some("" | "table") if quiet => Form::Raw(Template::parse(self.quiet)?),
            None | Some("" | "table") => Form::Table(Template::parse(self.default)?),
            Some("json") => Form::Raw(Template::parse("{{json .}}")?),
            Some(text) => match text.strip_prefix("table ") {
                Some(template) => Form::Table(Template::parse(template)?),
                None => Form::Raw(Template::parse(text)?),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_is_a_table_a_template_json_or_ids() {
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
