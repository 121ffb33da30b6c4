package manifest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Problem is one thing that is wrong with a file.
type Problem struct {
	// File is the path as it was found; Line counts from 1, 0 means the
	// file as a whole.
	File string
	Line int
	// Field is the path of the field within its document, such as
	// spec.steps[1].ref.name; "" means the document as a whole.
	Field string
	// Message says what is wrong, and what would be right.
	Message string

	cause error
}

func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		b.WriteString(":" + strconv.Itoa(p.Line))
	}
	if p.Field != "" {
		b.WriteString(": " + p.Field)
	}
	return b.String() + ": " + p.Message
}

// Unwrap is the error of the operating system, if that is what went wrong.
func (p *Problem) Unwrap() error { return p.cause }

// Problems is the error of Load: everything that is wrong, in the order of
// files and lines.
type Problems []*Problem

// maxShown of the problems are spelled out by Problems.Error.
const maxShown = 20

// Error has a line for each of the first 20 problems, and tells how many more
// there are.
func (ps Problems) Error() string {
	var b strings.Builder
	for i, p := range ps {
		if i == maxShown {
			fmt.Fprintf(&b, "\n... and %d more", len(ps)-maxShown)
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(p.Error())
	}
	return b.String()
}

// Unwrap is each of the problems, for errors.Is and errors.As.
func (ps Problems) Unwrap() []error {
	errs := make([]error, len(ps))
	for i, p := range ps {
		errs[i] = p
	}
	return errs
}

// sorted orders the problems by file, in the order of files, and by line.
func (ps Problems) sorted(files []string) Problems {
	rank := make(map[string]int, len(files))
	for i, f := range files {
		rank[f] = i
	}
	slices.SortStableFunc(ps, func(a, b *Problem) int {
		if d := rank[a.File] - rank[b.File]; d != 0 {
			return d
		}
		return a.Line - b.Line
	})
	return ps
}
