package wire

import (
	"errors"
	"reflect"
	"testing"

	"github.com/sidestep-dev/sidestep/channel/event"
)

func TestAnEventInABodyArrivesAsItWas(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]*event.Event{
		"small": {SpecVersion: "1.0", ID: "1", Source: "/s", Type: "t"},
		"full": {
			SpecVersion: "1.0", ID: "1 %", Source: "/ü", Type: "t", DataContentType: "text/plain",
			Attributes: []event.Attribute{{Name: "subject", Value: "a \"b\" \x01"}, {Name: "ext", Value: ""}},
			Transport:  []event.Attribute{{Name: "traceparent", Value: "00-x"}},
			Data:       []byte("\x00\xff\r\n"),
		},
		"an event in an event": {
			SpecVersion: "1.0", ID: "1", Source: "/s", Type: "t", DataContentType: "application/cloudevents+json",
			Attributes: nil, Transport: []event.Attribute{{Name: "baggage", Value: "a=b"}},
			Data: []byte(`{"specversion":"1.0"}`),
		},
	} {
		got, err := ParseEvent(AppendEvent(nil, e))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !reflect.DeepEqual(got, e) {
			t.Errorf("%s: got %+v\nwant %+v", name, got, e)
		}
	}
}

func TestWhatIsNoEventInABodyIsAnError(t *testing.T) {
	t.Parallel()
	for _, b := range []string{"", "\x00", "\x01", "\xff\xff\xff\xff\x0f", "\x01\x02a", "\x01\x05ce-id\x011", "\xff\x01"} {
		if e, err := ParseEvent([]byte(b)); !errors.Is(err, ErrEvent) {
			t.Errorf("%q: %+v, %v", b, e, err)
		}
	}
}

func TestAHandshakeIsReadWithCare(t *testing.T) {
	t.Parallel()
	h, err := ParseHandshake([]byte(`{"pod":"p","minVersion":1,"version":9,"ports":[9101,9102],"claims":true,"new":1}`))
	if err != nil {
		t.Fatal(err)
	}
	if !h.Allows(9102) || h.Allows(22) || !h.Claims {
		t.Errorf("%+v", h)
	}
	for _, body := range []string{"", "<html>", "{}", `{"pod":"a b","version":1}`, `{"pod":"p","version":0}`, `{"pod":"p","minVersion":2,"version":3}`, `{"pod":"p","ports":[70000]}`} {
		if h, err := ParseHandshake([]byte(body)); !errors.Is(err, ErrHandshake) {
			t.Errorf("%q: %+v, %v", body, h, err)
		}
	}
}
