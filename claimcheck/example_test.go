package claimcheck_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/sidestep-dev/sidestep/claimcheck"
	"github.com/sidestep-dev/sidestep/claimcheck/blobstore"
)

func Example() {
	ctx := context.Background()
	store := blobstore.Memory()
	defer store.Close()
	keys, err := claimcheck.NewKeys(bytes.Repeat([]byte("k"), 32))
	if err != nil {
		fmt.Println(err)
		return
	}
	room, err := claimcheck.New(claimcheck.Config{
		Stores: map[string]claimcheck.Store{"main": store}, Current: "main", Keys: keys,
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	// At ingress: what has been read so far was too much for a record.
	claim, err := room.Store(ctx, claimcheck.Payload{
		Owner: "team-a/pics", ContentType: "text/plain", Length: -1,
		Head: []byte("a large "), Rest: strings.NewReader("payload"), Limit: 5 << 30,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	header, err := room.Header(claim) // goes into the record
	if err != nil {
		fmt.Println(err)
		return
	}

	// At delivery, in another process.
	found, err := room.ParseHeader(header, "team-a/pics")
	if err != nil {
		fmt.Println(err)
		return
	}
	body, err := room.Open(ctx, found)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	fmt.Printf("%d bytes: %s %v\n", found.Size, data, err)

	_, err = room.ParseHeader(header, "team-b/pics")
	fmt.Println(err)
	// Output:
	// 15 bytes: a large payload <nil>
	// claim belongs to another channel: of team-a/pics, in a record of "team-b/pics"
}

func ExampleCheckroom_Link() {
	store := blobstore.Memory()
	defer store.Close()
	keys, err := claimcheck.NewKeys(bytes.Repeat([]byte("k"), 32))
	if err != nil {
		fmt.Println(err)
		return
	}
	room, err := claimcheck.New(claimcheck.Config{
		Stores: map[string]claimcheck.Store{"main": store}, Current: "main", Keys: keys,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	claim, err := room.Store(ctx, claimcheck.Payload{Owner: "team-a/pics", Head: []byte("0123456789"), Length: -1})
	if err != nil {
		fmt.Println(err)
		return
	}
	link, err := room.Link(ctx, claim, time.Hour)
	if err != nil {
		fmt.Println(err)
		return
	}
	req := httptest.NewRequest(http.MethodGet, link, nil)
	req.Header.Set("Range", "bytes=2-4")
	answer := httptest.NewRecorder()
	room.Handler().ServeHTTP(answer, req)
	fmt.Println(answer.Code, answer.Header().Get("Content-Range"), answer.Body)
	// Output: 206 bytes 2-4/10 234
}
