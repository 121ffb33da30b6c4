package kafkabackend

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/findcoordinator"
	"github.com/segmentio/kafka-go/protocol/metadata"
	"github.com/sidestep-dev/sidestep/channel/backend"
)

const (
	// adminLinks bounds the connections to one broker for short requests.
	adminLinks = 4
	// linkAge is after what idle time a connection is not used again: brokers
	// close them after 10 minutes.
	linkAge = 4 * time.Minute
	// perRequest bounds the topics in one administrative request.
	perRequest = 500
)

// known are the requests that we make.
var known = map[protocol.ApiKey]bool{
	protocol.Produce: true, protocol.Fetch: true, protocol.ListOffsets: true, protocol.Metadata: true,
	protocol.OffsetCommit: true, protocol.OffsetFetch: true, protocol.FindCoordinator: true,
	protocol.SaslHandshake: true, protocol.SaslAuthenticate: true, protocol.CreateTopics: true,
	protocol.DeleteTopics: true, protocol.DeleteGroups: true, protocol.IncrementalAlterConfigs: true,
}

// partition names one of a topic.
type partition struct {
	topic string
	index int32
}

// cluster knows the brokers and which of them leads what.
type cluster struct {
	dialer  *dialer
	seeds   []*broker
	timeout time.Duration
	group   *crew
	life    context.Context // ends with the backend

	look    batcher[*lookup]
	offsets batcher[*offsetWish]

	mu           sync.Mutex
	brokers      map[int32]*broker
	former       []*broker // that have another address now
	controller   int32
	leaders      map[string][]int32 // a topic's partitions' leaders, -1: none
	coordinators map[string]int32
}

// broker is one of the cluster, and our connections to it.
type broker struct {
	c       *cluster
	id      int32
	address string
	slots   chan struct{}
	idle    chan *link

	once     sync.Once
	producer *producer
	fetcher  *fetcher
}

func newCluster(life context.Context, d *dialer, addresses []string, timeout time.Duration, group *crew) *cluster {
	c := &cluster{
		dialer: d, timeout: timeout, group: group, life: life, brokers: make(map[int32]*broker), controller: -1,
		leaders: make(map[string][]int32), coordinators: make(map[string]int32),
	}
	for _, a := range addresses {
		c.seeds = append(c.seeds, c.newBroker(-1, a))
	}
	c.look = batcher[*lookup]{lanes: 1, most: perRequest, run: c.lookUp, group: group}
	c.offsets = batcher[*offsetWish]{lanes: 2, most: 4 * perRequest, run: c.askOffsets, group: group}
	return c
}

func (c *cluster) newBroker(id int32, address string) *broker {
	return &broker{
		c: c, id: id, address: address,
		slots: make(chan struct{}, adminLinks), idle: make(chan *link, adminLinks),
	}
}

// call makes one short request.
func (b *broker) call(ctx context.Context, msg protocol.Message) (protocol.Message, error) {
	var answer protocol.Message
	err := b.use(ctx, func(ctx context.Context, l *link) (err error) {
		answer, err = l.roundTrip(ctx, msg)
		return err
	})
	return answer, err
}

// use lends a connection to do. A connection that had been idle may have been
// closed by the broker: then it happens once more on a new one, so do must be
// something that may be done twice.
func (b *broker) use(ctx context.Context, do func(context.Context, *link) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, b.c.timeout, fmt.Errorf("no answer within %v", b.c.timeout))
	defer cancel()
	defer context.AfterFunc(b.c.life, cancel)()
	select {
	case b.slots <- struct{}{}:
		defer func() { <-b.slots }()
	case <-ctx.Done():
		return contextError(ctx)
	}
	for {
		l, fresh, err := b.link(ctx)
		if err != nil {
			return err
		}
		if err = do(ctx, l); err == nil {
			b.idle <- l // there is room: each slot has at most one
			return nil
		}
		l.close()
		if fresh || ctx.Err() != nil {
			return err
		}
	}
}

func (b *broker) link(ctx context.Context) (l *link, fresh bool, err error) {
	for {
		select {
		case l := <-b.idle:
			if time.Since(l.used) < linkAge {
				return l, false, nil
			}
			l.close()
			continue
		default:
		}
		l, err := b.c.dialer.connect(ctx, b.address)
		return l, true, err
	}
}

// closeIdle closes what nobody uses.
func (b *broker) closeIdle() {
	for {
		select {
		case l := <-b.idle:
			l.close()
		default:
			return
		}
	}
}

// all brokers, the seeds last.
func (c *cluster) all() []*broker {
	c.mu.Lock()
	defer c.mu.Unlock()
	var s []*broker
	for _, b := range c.brokers {
		s = append(s, b)
	}
	return append(s, c.seeds...)
}

// anywhere asks one broker after the other until one answers.
func (c *cluster) anywhere(ctx context.Context, msg protocol.Message) (answer protocol.Message, err error) {
	var errs []error
	for _, b := range c.all() {
		if answer, err = b.call(ctx, msg); err == nil {
			return answer, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil || c.life.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// atController asks the broker that changes the cluster; any of them, in KRaft,
// passes it on.
func (c *cluster) atController(ctx context.Context, msg protocol.Message) (protocol.Message, error) {
	c.mu.Lock()
	b := c.brokers[c.controller]
	c.mu.Unlock()
	if b == nil {
		return c.anywhere(ctx, msg)
	}
	return b.call(ctx, msg)
}

// lookup asks for what is known of a topic.
type lookup struct {
	topic string
	err   error // ErrNotFound: there is none
	done  chan struct{}
}

// refresh asks the brokers about a topic, and returns its partitions' leaders.
func (c *cluster) refresh(ctx context.Context, topic string) ([]int32, error) {
	w := &lookup{topic: topic, done: make(chan struct{})}
	c.look.add(w)
	select {
	case <-w.done:
	case <-ctx.Done():
		return nil, contextError(ctx)
	}
	if w.err != nil {
		return nil, w.err
	}
	return c.known(topic), nil
}

func (c *cluster) known(topic string) []int32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leaders[topic]
}

// partitions of a topic, as they are known or else asked for.
func (c *cluster) partitions(ctx context.Context, topic string) ([]int32, error) {
	if l := c.known(topic); l != nil {
		return l, nil
	}
	return c.refresh(ctx, topic)
}

func (c *cluster) lookUp(wishes []*lookup) {
	r := &metadata.Request{TopicNames: make([]string, 0, len(wishes))}
	seen := make(map[string]error, len(wishes))
	for _, w := range wishes {
		if _, ok := seen[w.topic]; !ok {
			seen[w.topic] = fmt.Errorf("topic %s: %w", w.topic, backend.ErrNotFound)
			r.TopicNames = append(r.TopicNames, w.topic)
		}
	}
	answer, err := c.anywhere(c.life, r)
	if err == nil {
		m, _ := answer.(*metadata.Response)
		c.learn(m, seen)
	}
	for _, w := range wishes {
		if w.err = err; err == nil {
			w.err = seen[w.topic]
		}
		close(w.done)
	}
}

// learn takes in an answer; what it says of each topic goes into says.
func (c *cluster) learn(m *metadata.Response, says map[string]error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range m.Brokers {
		address := net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
		old := c.brokers[b.NodeID]
		if old != nil && old.address != address {
			c.former = append(c.former, old)
		}
		if old == nil || old.address != address {
			c.brokers[b.NodeID] = c.newBroker(b.NodeID, address)
		}
	}
	c.controller = m.ControllerID
	for _, t := range m.Topics {
		if says[t.Name] = brokerError(t.ErrorCode); t.ErrorCode != 0 {
			delete(c.leaders, t.Name)
			continue
		}
		leaders := make([]int32, len(t.Partitions))
		for i := range leaders {
			leaders[i] = -1
		}
		for _, p := range t.Partitions {
			if i := int(p.PartitionIndex); i >= 0 && i < len(leaders) {
				leaders[i] = p.LeaderID
			}
		}
		c.leaders[t.Name] = leaders
	}
}

// nobodyKnows tells that brokers answer, and that none of them knows a topic. Those that
// lag behind the others do not know what is new.
func (c *cluster) nobodyKnows(ctx context.Context, topic string) bool {
	c.mu.Lock()
	brokers := slices.Collect(maps.Values(c.brokers))
	c.mu.Unlock()
	answered := false
	for _, b := range brokers {
		answer, err := b.call(ctx, &metadata.Request{TopicNames: []string{topic}})
		if err != nil {
			continue
		}
		m, _ := answer.(*metadata.Response)
		says := map[string]error{topic: backend.ErrNotFound}
		if c.learn(m, says); !errors.Is(says[topic], backend.ErrNotFound) {
			return false
		}
		answered = true
	}
	return answered
}

// forget has the next to ask about the topic ask the brokers.
func (c *cluster) forget(topic string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.leaders, topic)
}

// leader of a partition, asked for if it is not known.
func (c *cluster) leader(ctx context.Context, p partition) (*broker, error) {
	leaders, err := c.partitions(ctx, p.topic)
	if err != nil {
		return nil, err
	}
	if int(p.index) >= len(leaders) {
		return nil, fmt.Errorf("partition %d of topic %s: %w", p.index, p.topic, backend.ErrNotFound)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if b := c.brokers[leaders[p.index]]; b != nil {
		return b, nil
	}
	delete(c.leaders, p.topic)
	return nil, brokerError(int16(kafka.LeaderNotAvailable))
}

// coordinator of a consumer group. With one broker there is no question.
func (c *cluster) coordinator(ctx context.Context, group string) (*broker, error) {
	c.mu.Lock()
	id, ok := c.coordinators[group]
	b := c.brokers[id]
	c.mu.Unlock()
	if ok && b != nil {
		return b, nil
	}
	answer, err := c.anywhere(ctx, &findcoordinator.Request{Key: group})
	if err != nil {
		return nil, err
	}
	f, _ := answer.(*findcoordinator.Response)
	if err := brokerError(f.ErrorCode); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if b = c.brokers[f.NodeID]; b == nil {
		b = c.newBroker(f.NodeID, net.JoinHostPort(f.Host, strconv.Itoa(int(f.Port))))
		c.brokers[f.NodeID] = b
	}
	c.coordinators[group] = f.NodeID
	return b, nil
}

func (c *cluster) forgetCoordinator(group string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.coordinators, group)
}

// at calls do until it does not say any more that another broker is to be
// asked, or that the cluster is at work.
func (c *cluster) at(ctx context.Context, topic string, do func() error) error {
	err := do()
	if err == nil || !moved(err) {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, fmt.Errorf("no leader within %v", c.timeout))
	defer cancel()
	for pause := 5 * time.Millisecond; moved(err); pause = min(2*pause, 200*time.Millisecond) {
		c.forget(topic)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return errors.Join(err, contextError(ctx))
		case <-c.life.Done():
			return backend.ErrClosed
		}
		err = do()
	}
	return err
}

// lost is called when a broker did not answer: what it leads may have another
// leader by now.
func (c *cluster) lost(b *broker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for topic, leaders := range c.leaders {
		for _, id := range leaders {
			if id == b.id {
				delete(c.leaders, topic)
				break
			}
		}
	}
}

func (c *cluster) close() {
	c.mu.Lock()
	former := c.former
	c.mu.Unlock()
	for _, b := range append(c.all(), former...) {
		b.services().producer.close()
		b.closeIdle()
	}
}

// services are made when a broker is first needed for more than a short request.
func (b *broker) services() *broker {
	b.once.Do(func() {
		b.producer = &producer{b: b, timeout: b.c.timeout}
		b.fetcher = newFetcher(b)
	})
	return b
}
