// Package claimcheck keeps payloads that are too large for a log in a store, and
// hands out claims to them: small, signed, and good for reading the very bytes again.
//
//	body -- head --> Checkroom.Store --> Store.Put: payload | trailer
//	     -- rest -'        |
//	                       v
//	                     Claim --> Header: a signed text --> internal header of a record
//	                                                               |
//	        subscriber  <-- Open: a stream, complete only if right <-- ParseHeader
//	   its own request  <-- Handler: ranges, verified by block <-- Link: signed, expires
//
// # The life of a payload
//
//	Store ----------------------------------------------> expires: its name says when
//	   Carry: less than half of its time left? a mark ---------------> renewed
//	   Link: a mark -------> linked until
//	   Discard: nobody else holds it, no valid link --> deleted
//	   process died in between --> nobody deletes it --> Sweep: its time is over, no mark,
//	                                                      no older record --> deleted
//
// A claim is put before its record is published, renewed before it is published
// again, and deleted after the record is settled. So a crash leaves an object too
// many, which is swept, and never a record whose payload is missing.
//
// # Parts
//
// Store is the seam: claimcheck/blobstore (folder, memory, S3, GCS, Azure) and
// claimcheck/natsstore implement it, claimcheck/storetest is what each of them must
// pass, claimcheck/stores opens one by its URL. Checkroom is all the rest; it holds
// several stores, of which one is written to. Keys sign. An Observer is told, for metrics.
//
// # Memory
//
// Store and Open take a fixed buffer per stream and 32 bytes per MiB of payload;
// ranges and comparisons (Payload.Same) 1 MiB more. A sweep holds 8,192 names at a
// time, and a Checkroom the seals of the last 8,192 payloads that it stored, less than 2 MiB,
// and as many bytes of payloads as Config.Keep says.
//
// # Goroutines
//
// None of its own. Of a payload that may be longer than 128 KiB, two for each stream, one
// that reads and one that hashes (see ahead), or one on the way into memory (see beside): Store
// awaits them before it returns, the reader that Open returned in its Close.
package claimcheck
