// Command swap measures how long deliveries pause while the backend is changed
// under load:
//
//	generator, 1,000 events/s --> Sidestep --> step 1 --> step 2: when did each arrive?
//	                                 ^
//	                 config-sidestep | backend: embedded -> nats -> kafka -> embedded -> ...
//
// The generator, the steps and a NATS server are this process; the dispatcher and Kafka
// are others. A change counts from the edit until the state file says that no log is on its way. Its
// pause is the longest time in it without an arrival at the last step.
package main
