package main

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
)

// printer writes lines about what happens.
type printer struct {
	json bool

	mu sync.Mutex // guards w
	w  io.Writer
}

func (p *printer) line(text string, object any) {
	if p.json {
		b, err := json.Marshal(object)
		if err != nil {
			return // there are only strings and numbers
		}
		text = string(b)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintln(p.w, text) // nothing to be done about a closed terminal
}

// listeningLine is what --output json prints when a step can be called.
type listeningLine struct {
	Listening string `json:"listening"`
	URL       string `json:"url"`
}

func (p *printer) listening(name, url string) {
	p.line("listening "+name+" "+url, listeningLine{name, url})
}

// handledLine is what --output json prints for an event.
type handledLine struct {
	Step    string    `json:"step"`
	ID      string    `json:"id"`
	Subject string    `json:"subject,omitempty"`
	Began   time.Time `json:"began"`
	Micros  int64     `json:"micros"`
	Note    string    `json:"note,omitempty"`
	File    string    `json:"file,omitempty"`
	Bytes   int       `json:"bytes,omitempty"`
	Error   string    `json:"error,omitempty"`
}

func (p *printer) handled(name string, in cloudevents.Event, began time.Time, out outcome, err error) {
	took := time.Since(began)
	l := handledLine{
		Step: name, ID: in.ID(), Subject: in.Subject(), Began: began, Micros: took.Microseconds(),
		Note: out.note, File: out.file, Bytes: out.bytes,
	}
	text := fmt.Sprintf("%-8s %s %s %s (%v)", name, in.ID(), in.Subject(), out.note, took.Round(100*time.Microsecond))
	if err != nil {
		l.Error = err.Error()
		text += ": " + l.Error
	}
	p.line(text, l)
}
