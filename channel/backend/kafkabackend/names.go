package kafkabackend

import (
	"crypto/rand"
	"fmt"
	"strings"
)

// Kafka's topics are named with letters, digits, '.', '_' and '-', at most 249
// of them; and two must not differ in '.' and '_' only.

// mostOfName bounds what a topic's name says of a log's namespace or name.
const mostOfName = 63

func checkTemplate(t string) error {
	if t == "" {
		return nil
	}
	plain := strings.NewReplacer("{namespace}", "", "{name}", "", "{id}", "").Replace(t)
	if strings.Trim(plain, letters+"._") != "" {
		return fmt.Errorf("kafka: topic template %q: beside {namespace}, {name} and {id} it may have letters, digits, '.', '_' and '-'", t)
	}
	if !strings.Contains(t, "{id}") {
		return fmt.Errorf("kafka: topic template %q: {id} is missing, so that a log made again would be given the records of the former one", t)
	}
	if len(render(t, strings.Repeat("n", mostOfName+1), strings.Repeat("n", mostOfName+1), newID())) > 249 {
		return fmt.Errorf("kafka: topic template %q: names would exceed 249 characters", t)
	}
	return nil
}

func render(template, namespace, name, id string) string {
	return strings.NewReplacer("{namespace}", fit(namespace), "{name}", fit(name), "{id}", id).Replace(template)
}

// topicOf is the name of a new log's topic. It says which log it is to people;
// it is unique by the id.
func topicOf(template, log, id string) string {
	namespace, name, ok := strings.Cut(log, "/")
	if !ok {
		namespace, name = "", log
	}
	return render(template, namespace, name, id)
}

// fit makes a part of a topic's name.
func fit(s string) string {
	b := []byte(s[:min(len(s), mostOfName)])
	for i, c := range b {
		if !strings.ContainsRune(letters, rune(c)) || c >= 0x80 {
			b[i] = '-'
		}
	}
	return string(b)
}

// newID is of an incarnation or a group: 26 letters and digits at random.
func newID() string { return strings.ToLower(rand.Text()) }

// groupOf is the name of the Kafka consumer group with a group's positions: it
// begins with the subscription's UID.
func (b *Backend) groupOf(g *groupEntry) string {
	return b.config.Prefix + "." + g.Group + "." + g.ID
}
