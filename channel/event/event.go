package event

// Event is a CloudEvent in memory: its attributes in CloudEvents binary mode
// and its data, as opaque bytes. An Event is not changed once it was handed
// on: the engine, the retries of a delivery and a dead letter share it.
type Event struct {
	// The required attributes; never empty in an Event that was decoded.
	// SpecVersion is "1.0" or "0.3".
	SpecVersion, ID, Source, Type string
	// DataContentType is the datacontenttype attribute, "" when absent.
	DataContentType string
	// Attributes are all others, optional and extension attributes alike,
	// each name once, lower case, in the order in which they came; values in
	// the canonical string form of the CloudEvents type system, unescaped.
	Attributes []Attribute
	// Transport are the HTTP headers that travel beside an event:
	// traceparent, tracestate, baggage, x-request-id, knative-*, x-b3-*.
	// Names are lower case.
	Transport []Attribute
	// Data is the payload, nil when there is none, or when it is not in memory.
	Data []byte
	// Payload is where the data is if it is not in memory, or nil.
	Payload Payload
}

// Size of the data in bytes, wherever it is.
func (e *Event) Size() int64 {
	if e.Payload != nil {
		return e.Payload.Size()
	}
	return int64(len(e.Data))
}

// Attribute is a name and a value.
type Attribute struct{ Name, Value string }

// Get returns the optional or extension attribute of that name, or "".
func (e *Event) Get(name string) string {
	for i := range e.Attributes {
		if e.Attributes[i].Name == name {
			return e.Attributes[i].Value
		}
	}
	return ""
}

// With returns a copy that has the extension attributes given, replacing those
// of the same name. Data, Payload and Transport are shared with e.
func (e *Event) With(attrs ...Attribute) *Event {
	c := *e
	c.Attributes = make([]Attribute, 0, len(e.Attributes)+len(attrs))
next:
	for _, a := range e.Attributes {
		for i := range attrs {
			if attrs[i].Name == a.Name {
				continue next
			}
		}
		c.Attributes = append(c.Attributes, a)
	}
	c.Attributes = append(c.Attributes, attrs...)
	return &c
}
