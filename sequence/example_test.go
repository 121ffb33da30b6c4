package sequence_test

import (
	"fmt"

	"github.com/sidestep-dev/sidestep/sequence"
)

func ExampleSequence_Expand() {
	pics := sequence.Sequence{
		Namespace: "default",
		Name:      "pics",
		Template:  sequence.Template{APIVersion: sequence.SidestepVersion, Kind: sequence.SidestepKind},
		Steps: []sequence.Step{
			{Destination: sequence.Destination{URI: "http://resize"}},
			{Destination: sequence.Destination{URI: "http://caption"}},
		},
	}
	_, subscriptions := pics.Expand()
	for _, s := range subscriptions {
		fmt.Print(s.Channel.Name, ": ", s.Subscriber.URI)
		if s.Reply != nil {
			fmt.Print(" -> ", s.Reply.Ref.Name)
		}
		fmt.Println()
	}
	// Output:
	// pics-kn-sequence-0: http://resize -> pics-kn-sequence-1
	// pics-kn-sequence-1: http://caption
}

func ExampleHost() {
	fmt.Println(sequence.Host("default", "pics-kn-sequence-0", ""))
	fmt.Println(sequence.Host("default", "a-name-that-leaves-no-room-for-the-suffix-of-its-service", ""))
	// Output:
	// pics-kn-sequence-0-kn-channel.default.svc.cluster.local
	// a-name-that-leaves-n88d4aff4f34e3681ec1d0be1f225b23a-kn-channel.default.svc.cluster.local
}

func ExampleGraph_Chain() {
	g := sequence.NewGraph([]sequence.Hop{
		{Subscription: "resize", Channel: "pics-0", Reply: "pics-1"},
		{Subscription: "caption", Channel: "pics-1", Reply: "pics-2"},
		{Subscription: "collect", Channel: "pics-2"},
	}, nil)
	fmt.Println(g.Chain("resize"))
	// Output: [resize caption collect]
}
