// Package section replaces what stands between two markers of a Markdown file.
//
//	<!-- NAME:begin -->
//	text
//	<!-- NAME:end -->
package section

import (
	"bytes"
	"fmt"
	"os"
)

// Write puts text between the markers of name, which must stand once each in
// the file. An error leaves the file as it was.
func Write(path, name, text string) error {
	doc, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the document: %w", err)
	}
	if doc, err = Replace(doc, name, text); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := os.WriteFile(path, doc, 0o644); err != nil {
		return fmt.Errorf("write the document: %w", err)
	}
	return nil
}

// Replace is Write for a document in memory.
func Replace(doc []byte, name, text string) ([]byte, error) {
	begin, end := "<!-- "+name+":begin -->", "<!-- "+name+":end -->"
	i, j := bytes.Index(doc, []byte(begin)), bytes.Index(doc, []byte(end))
	if i < 0 || j < i || bytes.Count(doc, []byte(begin)) > 1 || bytes.Count(doc, []byte(end)) > 1 {
		return nil, fmt.Errorf("it must hold %s and, after it, %s, once each", begin, end)
	}
	return fmt.Appendf(nil, "%s%s\n%s%s", doc[:i], begin, text, doc[j:]), nil
}
