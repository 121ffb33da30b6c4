package backend

// Record is an event as a backend stores it: CloudEvents binary mode, with
// attributes as headers and data as body.
type Record struct {
	// Key orders: on an Ordered log the records of one key are delivered in
	// log order. Empty: the record has no order.
	Key string
	// Dedup, unless empty, lets the backend drop this record when one with
	// the same Dedup was stored in the same log within the publish retry
	// horizon (10 s). It only saves work: nothing may depend on it.
	Dedup string
	// Header is in the order in which it was given; names may repeat and
	// keep their case. Names are RFC 9110 tokens; values hold no CR, LF or
	// NUL and neither begin nor end with white space.
	Header []Header
	// Data is opaque. nil and empty are the same.
	Data []byte
}

// Header is one name and value.
type Header struct{ Name, Value string }

// Size is what the record counts against Limits.MaxRecordBytes: its key, its
// header (with 4 bytes for each entry's separators) and its data.
func (r *Record) Size() int {
	n := len(r.Key) + len(r.Data)
	for i := range r.Header {
		n += len(r.Header[i].Name) + len(r.Header[i].Value) + 4
	}
	return n
}
