//! Tables in aligned columns, with the widths of Go's `text/tabwriter` as Docker sets it up.

/// Writes rows in columns at least 10 wide, with three spaces between them; the last column is not padded.
pub fn table(rows: &[Vec<String>]) -> String {
    aligned(rows, 10, 3)
}

/// Writes rows as [`table`] does, in columns at least `least` wide with `between` spaces between them.
pub fn aligned(rows: &[Vec<String>], least: usize, between: usize) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut widths = vec![0; columns];
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            widths[at] = widths[at].max(cell.chars().count() + between).max(least);
        }
    }
    let mut out = String::new();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            out.push_str(cell);
            if at + 1 < row.len() {
                out.extend(std::iter::repeat_n(' ', widths[at] - cell.chars().count()));
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_align_and_the_last_is_not_padded() {
        let rows =
            [["REPOSITORY", "TAG", "SIZE"], ["debian", "latest", "217MB"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(super::table(&rows), "REPOSITORY   TAG       SIZE\ndebian       latest    217MB\n");
    }
}
