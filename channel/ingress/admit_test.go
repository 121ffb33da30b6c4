package ingress_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/event"
	"github.com/sidestep-dev/sidestep/channel/ingress"
)

func TestWhoMayNotSendIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.handler.Admit = func(_ context.Context, c *channel.Channel, authorization string) (func(*event.Event) error, error) {
		if c.Name != "a" || authorization != "Bearer wrong" {
			t.Errorf("asked for %s with %q", c.Name, authorization)
		}
		return nil, ingress.Refuse(http.StatusUnauthorized, "the token is of no use")
	}
	f.serve()
	f.post("x", with("Authorization", "Bearer wrong")).want(t, http.StatusUnauthorized, "", "the token is of no use")
	f.wantStored(0)
	f.wantBudgetFree()
}

func TestWhatMayNotBeSentIsRefusedBeforeItIsStored(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.handler.Admit = func(context.Context, *channel.Channel, string) (func(*event.Event) error, error) {
		return func(e *event.Event) error {
			if e.ID == "good" {
				return nil
			}
			return ingress.Refuse(http.StatusForbidden, "not this one")
		}, nil
	}
	f.serve()
	f.post("x", with("ce-id", "good")).want(t, http.StatusAccepted, "")
	f.post("x", with("ce-id", "bad")).want(t, http.StatusForbidden, "", "not this one")
	f.wantStored(1)
	f.wantBudgetFree()
}

func TestWhoCannotBeDecidedAboutComesAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.handler.Admit = func(context.Context, *channel.Channel, string) (func(*event.Event) error, error) {
		return nil, errors.New("keys are not known yet")
	}
	f.serve()
	f.post("x", nil).want(t, http.StatusServiceUnavailable, "1")
	f.wantStored(0)
}
