package kafkabackend

import (
	"context"
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go"
	"github.com/sidestep-dev/sidestep/channel/backend"
)

// brokerError turns an error code of a broker's answer into one of the
// backend's; nil if it is none.
func brokerError(code int16) error {
	switch e := kafka.Error(code); e {
	case 0:
		return nil
	case kafka.MessageSizeTooLarge, kafka.RecordListTooLarge:
		return fmt.Errorf("%w: %w", e, backend.ErrTooLarge)
	case kafka.UnknownTopicOrPartition:
		return fmt.Errorf("%w: %w", e, backend.ErrNotFound)
	case kafka.KafkaStorageError:
		return fmt.Errorf("%w: %w", e, backend.ErrFull)
	default:
		return fmt.Errorf("%w: %w", e, backend.ErrUnavailable)
	}
}

// moved: another broker is to be asked, or the same a little later.
func moved(err error) bool {
	for _, e := range []kafka.Error{
		kafka.NotLeaderForPartition, kafka.LeaderNotAvailable, kafka.ReplicaNotAvailable, kafka.FencedLeaderEpoch,
		kafka.UnknownLeaderEpoch, kafka.KafkaStorageError, kafka.NotCoordinatorForGroup, kafka.GroupCoordinatorNotAvailable,
		kafka.GroupLoadInProgress, kafka.NotController,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// failure wraps what ended a call with what was attempted. What is not one of
// the backend's errors yet is a broker that cannot be reached.
func failure(what string, err error) error {
	if err == nil {
		return nil
	}
	for _, e := range []error{
		backend.ErrNotFound, backend.ErrTooLarge, backend.ErrSealed, backend.ErrClosed, backend.ErrUnavailable,
	} {
		if errors.Is(err, e) {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return fmt.Errorf("%s: %w", what, errors.Join(err, backend.ErrUnavailable))
}

// contextError is the end of a call whose outcome is not known.
func contextError(ctx context.Context) error {
	err := ctx.Err()
	cause := context.Cause(ctx)
	if errors.Is(cause, backend.ErrClosed) {
		return cause
	}
	if cause != err { //nolint:errorlint // the same value, or not
		err = errors.Join(err, cause)
	}
	return errors.Join(err, backend.ErrUnavailable)
}
