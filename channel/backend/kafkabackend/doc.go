// Package kafkabackend keeps logs on Kafka, over the wire protocol of
// segmentio/kafka-go. docs/design/kafka-mapping.md says why it is as it is.
//
//	            catalog topic (compacted)          which logs and groups there are; sealed or not
//	            fleet topic                        the processes that share groups, among themselves
//	log      -> topic {prefix}.{ns}.{name}.{id}    CloudEvents in binary mode
//	group    -> consumer group without members     positions, as plain commits
//
//	Publish -> producer (2 lanes a broker) -> topic -> fetcher (6 lanes a broker) -> cursor of each
//	             group commit                            long polls                    partition
//	                                                                                      |
//	            Ack -> tracker: contiguous prefix + what is acked above <- desk of the group's leader
//	                       |                                                 |               |
//	                       v                                                 v               v
//	                   commit: offset + metadata                    member (Receive)    members of other
//	                                                                                    processes, by grants
//	                                                                                    in the fleet topic
//
// Connections do not depend on the number of logs: for each broker 4 for short
// requests, 2 to produce and 6 to fetch, and 2 for the topics of our own.
//
// Goroutines (crew ends them all with the Backend):
//
//	tail.run            reads the catalog, and once it has joined the fleet topic
//	lane.work           a fetch lane: long poll, hand out, again
//	fleet.beat          says that we live
//	Backend.refresh     looks for partitions that were added
//	batcher.loop        while there is something to do: publishes, lookups, commits, messages
//	share.retire, desk.load, cursor.look   one step each of taking over or handing on
//
// Who is in the fleet (roster), and what a process is in a group (part), are state
// machines: they are told what was read, and say what is to be done.
//
// Locks, in the order in which they are taken: fleet, share (with its desk,
// cursors and members), fetcher.
package kafkabackend
