package term

import (
	"strings"
	"unicode/utf8"
)

// Column is one column of a table. On a terminal that is too narrow, a
// column with Wrap breaks at spaces; the others are cut with "…".
type Column struct {
	Title string
	Wrap  bool
}

// Cell is one value with its style.
type Cell struct {
	Text  string
	Style Style
}

// Row is one line of a table; Note is shown below it, indented.
type Row struct {
	Cells     []Cell
	Note      string
	NoteStyle Style
}

// Table is a borderless table.
type Table struct {
	Columns []Column
	Rows    []Row
	// NoHeader leaves the titles out (key/value blocks).
	NoHeader bool
}

// T makes a plain cell.
func T(text string) Cell { return Cell{Text: text} }

const (
	columnGap   = 2
	minColumn   = 6
	noteIndent  = 4
	minNoteWrap = 40
)

// Render draws the table: one leading space, two spaces between columns, a
// line feed after each line. On a terminal it fits the width; elsewhere
// nothing is ever cut or wrapped.
func (c *Console) Render(t Table) string {
	widths := t.widths()
	total := c.columns()
	if total > 0 {
		shrink(t.Columns, widths, total)
	}
	var b strings.Builder
	if !t.NoHeader {
		header := make([]Cell, len(t.Columns))
		for i, col := range t.Columns {
			header[i] = Cell{col.Title, Bold}
		}
		c.renderRow(&b, t.Columns, header, widths)
	}
	for _, row := range t.Rows {
		c.renderRow(&b, t.Columns, row.Cells, widths)
		c.renderNote(&b, row, total)
	}
	return b.String()
}

func (t Table) widths() []int {
	widths := make([]int, len(t.Columns))
	for i, col := range t.Columns {
		if !t.NoHeader {
			widths[i] = utf8.RuneCountInString(col.Title)
		}
		for _, row := range t.Rows {
			if i < len(row.Cells) {
				widths[i] = max(widths[i], utf8.RuneCountInString(row.Cells[i].Text))
			}
		}
	}
	return widths
}

// shrink takes room from the widest column until the line fits, first from
// those that wrap.
func shrink(columns []Column, widths []int, total int) {
	used := 1 + columnGap*(len(widths)-1)
	for _, w := range widths {
		used += w
	}
	for _, wrapOnly := range []bool{true, false} {
		for used > total {
			widest := -1
			for i, w := range widths {
				if (wrapOnly && !columns[i].Wrap) || w <= minColumn {
					continue
				}
				if widest < 0 || w > widths[widest] {
					widest = i
				}
			}
			if widest < 0 {
				break
			}
			if wrapOnly && widths[widest] <= 2*minColumn {
				break
			}
			widths[widest]--
			used--
		}
	}
}

func (c *Console) renderRow(b *strings.Builder, columns []Column, cells []Cell, widths []int) {
	lines := make([][]string, len(widths))
	height := 1
	for i := range widths {
		text := ""
		if i < len(cells) {
			text = cells[i].Text
		}
		lines[i] = fit(text, widths[i], columns[i].Wrap)
		height = max(height, len(lines[i]))
	}
	for h := range height {
		line := ""
		pad := 1
		for i, width := range widths {
			part := ""
			if h < len(lines[i]) {
				part = lines[i][h]
			}
			if part != "" {
				line += strings.Repeat(" ", pad) + c.Paint(styleOf(cells, i), part)
				pad = 0
			}
			pad += width - utf8.RuneCountInString(part) + columnGap
		}
		b.WriteString(line + "\n")
	}
}

func styleOf(cells []Cell, i int) Style {
	if i < len(cells) {
		return cells[i].Style
	}
	return Plain
}

func (c *Console) renderNote(b *strings.Builder, row Row, total int) {
	if row.Note == "" {
		return
	}
	for _, paragraph := range strings.Split(row.Note, "\n") {
		lines := []string{paragraph}
		if total > 0 {
			lines = Wrap(paragraph, max(total-noteIndent, minNoteWrap))
		}
		for _, line := range lines {
			b.WriteString(strings.Repeat(" ", noteIndent) + c.Paint(row.NoteStyle, line) + "\n")
		}
	}
}

// fit breaks or cuts a text to lines of at most width characters.
func fit(text string, width int, wrap bool) []string {
	if utf8.RuneCountInString(text) <= width {
		return []string{text}
	}
	if !wrap {
		return []string{cut(text, width)}
	}
	lines := Wrap(text, width)
	for i, line := range lines {
		lines[i] = cut(line, width)
	}
	return lines
}

func cut(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	return string([]rune(text)[:max(width-1, 0)]) + "…"
}

// Wrap breaks a text at spaces into lines of at most width characters; a
// longer word gets a line of its own.
func Wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	return append(lines, line)
}
