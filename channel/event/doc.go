// Package event is a CloudEvent in memory and its codecs: HTTP in binary and
// structured mode (CloudEvents v1.0.2 and v0.3), and the record of a backend.
//
//	HTTP request  --FromHTTP-->  Event  --ToRecord-->   backend.Record
//	HTTP response                  |    <--FromRecord--       (log)
//	                               |
//	                               +--AppendHTTPHeader, Data--> binary mode
//	                               +--AppendStructured--------> structured mode
//
// Attributes and data are kept as they came: an event leaves as it entered,
// byte for byte in its data and value for value in its attributes. (White space
// around JSON data has no place in structured mode.) The package has no
// goroutines and no state.
package event
