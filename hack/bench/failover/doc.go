// Command failover measures how long it takes until the others deliver what one
// of three processes would have, with many logs on one external broker:
//
//	this process: publishes ---> [broker] ---> member 1 (SIGKILL) --+
//	                                |--------> member 2 ------------+--> which record came
//	                                +--------> member 3 ------------+
//
// Each member is a process of this program that has subscribed to every log, by
// the backend that a dispatcher uses. Every log gets a record before one of them is
// killed, and one right after. The fail-over is over when all of these have come.
// What each process costs is read when all logs are idle.
package main
