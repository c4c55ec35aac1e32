package inventory

import (
	"fmt"
	"sort"
	"strings"
)

// Error is one thing wrong with an inventory file.
type Error struct {
	File         string
	Line, Column int    // 0: unknown
	Field        string // such as clusters.workload.nodes[2].address
	Message      string // what was found and what is expected
	Hint         string // what to do
}

func (e Error) Error() string {
	s := e.File
	if e.Line > 0 {
		s += fmt.Sprintf(":%d", e.Line)
	}
	if e.Column > 0 {
		s += fmt.Sprintf(":%d", e.Column)
	}
	if e.Field != "" {
		s += ": " + e.Field
	}
	s += ": " + e.Message
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// Errors are all the things wrong with a file, in the file's order.
type Errors []Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, x := range e {
		lines[i] = x.Error()
	}
	return strings.Join(lines, "\n")
}

// or returns the errors sorted by position, or nil.
func (e Errors) or() error {
	if len(e) == 0 {
		return nil
	}
	sort.SliceStable(e, func(i, j int) bool { return e[i].before(e[j]) })
	return e
}

func (e Error) before(o Error) bool {
	if e.Line != o.Line {
		return e.Line < o.Line
	}
	return e.Column < o.Column
}

// Warning is something that works but is probably not meant.
type Warning Error

func (w Warning) String() string { return Error(w).Error() }
