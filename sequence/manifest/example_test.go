package manifest_test

import (
	"fmt"

	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

func ExampleSet_Table() {
	set, err := manifest.Parse("pics.yaml", []byte(`
apiVersion: flows.knative.dev/v1
kind: Sequence
metadata: {name: pics}
spec:
  steps:
    - uri: http://127.0.0.1:9101
    - uri: http://127.0.0.1:9102
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	table, addresses, err := set.Table(manifest.TableOptions{
		UID: func(_, namespace, name string) string { return namespace + "." + name },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, a := range addresses {
		fmt.Println(a.Kind, a.Namespace+"/"+a.Name, a.URL)
	}
	for _, c := range table.Channels {
		for _, s := range c.Subscriptions {
			fmt.Println(c.Name, "->", s.Subscriber.URL)
		}
	}
	// Output:
	// Sequence default/pics http://127.0.0.1:8080/default/pics-kn-sequence-0
	// pics-kn-sequence-0 -> http://127.0.0.1:9101
	// pics-kn-sequence-1 -> http://127.0.0.1:9102
}

func ExampleParse_problems() {
	_, err := manifest.Parse("pics.yaml", []byte(`
apiVersion: flows.knative.dev/v1
kind: Sequence
metadata: {name: pics}
spec:
  steps:
    - uri: 127.0.0.1:9101
    - ref: {apiVersion: v1, kind: Service, name: caption}
      delivery: {timout: 10s}
`))
	fmt.Println(err)
	// Output:
	// pics.yaml:7: spec.steps[0].uri: bad URL "127.0.0.1:9101": want an absolute URL with http or https
	// pics.yaml:8: spec.steps[1].ref.name: no Service "caption" in namespace "default" is declared in these files; declare it or use uri
	// pics.yaml:9: spec.steps[1].delivery.timout: unknown field; did you mean timeout?
}
