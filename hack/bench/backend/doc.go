// Backend compares the Kafka backend with a franz-go producer and consumer that
// do the same on the same broker, in one process each time:
//
//	publish    64 goroutines, each waits for its record to be stored by all in-sync replicas
//	deliver    what was published is received and acked (franz-go: polled and committed)
//	latency    200 records/s: from before the publish until it is received
//
//	sequences  64 KiB events through one step and through five, each hop through a topic, in a
//	           dispatcher process, beside a relay of franz-go through as many topics
//
// Contenders take turns, in a shuffled order in every round; ratios are taken
// within a round. The broker is the real one of package kafkabroker, or the one that
// -broker names.
package main
