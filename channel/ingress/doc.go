// Package ingress is where events come in: a Handler that answers 202
// when an event is durable, and never before.
//
//	POST --> resolve --> room? --> read --> decode --> publish --> 202
//	          | host or    |        |         |           |
//	          | path       |        |         |           +-- 404 413 503
//	          |            |        |         +-- 400
//	          |            |        +-- 413 503, within the byte budget
//	          |            +-- 503: the backend is full
//	          +-- 400 404 405
//
// Every refusal says in its body what was wrong and, where there is a limit,
// names it; 503 says in Retry-After when to come again. What is refused has
// changed nothing.
//
// The answers are those of CONTRACT section 6: the Knative channel
// specification (data plane) and CloudEvents v1.0.2, HTTP protocol binding and
// webhook abuse protection.
//
// A Handler knows no HTTP library. Server serves it with fasthttp, and it is an
// http.Handler for net/http: two servers, one meaning.
//
// Goroutines: those of the server, one for each connection that is active.
package ingress
