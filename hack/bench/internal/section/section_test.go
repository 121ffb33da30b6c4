package section

import "testing"

func TestReplaceKeepsWhatIsAround(t *testing.T) {
	t.Parallel()
	const doc = "# A\n<!-- x:begin -->\nold\n<!-- x:end -->\nrest\n<!-- y:begin -->\n<!-- y:end -->\n"
	const want = "# A\n<!-- x:begin -->\nnew\n<!-- x:end -->\nrest\n<!-- y:begin -->\n<!-- y:end -->\n"
	got, err := Replace([]byte(doc), "x", "new\n")
	if err != nil || string(got) != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

func TestReplaceRefusesWhatHasNoPlace(t *testing.T) {
	t.Parallel()
	for _, doc := range []string{
		"", "<!-- x:begin -->", "<!-- x:end --><!-- x:begin -->",
		"<!-- x:begin --><!-- x:begin --><!-- x:end -->", "<!-- y:begin --><!-- y:end -->",
	} {
		if _, err := Replace([]byte(doc), "x", "new"); err == nil {
			t.Errorf("%q was changed", doc)
		}
	}
}
