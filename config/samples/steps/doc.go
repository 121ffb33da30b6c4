// Command steps runs the steps of the samples: small HTTP servers that take a
// picture as a CloudEvent and answer with another, as a user's own steps would,
// with the CloudEvents SDK and nothing of Sidestep.
//
//	            POST, ce-type: ..., image/jpeg            POST                 POST
//	channel --> [ resize :9101 ] --> channel --> [ caption :9102 ] --> ... --> [ collect :9104 ] --> folder
//	                 |                                 |
//	            decode, draw, encode: the answer is the event that comes next
//
// pics.yaml uses resize, caption, frame (:9103) and collect; prints.yaml uses
// sort (:9105), flaky (:9106), sepia (:9107), album (:9108) and lost (:9109);
// films.yaml uses probe (:9110), poster (:9111) and gallery (:9112), which take what is
// large by reference and read no more of it than they need.
//
//	steps --all                                     all of them, from :9101 on
//	steps --all --listen 127.0.0.1:0                each on a free port, which it prints
//	steps --step resize --listen 127.0.0.1:9101     one of them
//
// When a step listens it prints "listening NAME URL". Then there is one line
// for each event that it handled, or with --output json one JSON object for
// each line.
//
// Goroutines: one for each server, started and awaited by serve, and those of
// net/http for each connection.
package main
