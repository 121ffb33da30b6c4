package blobstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Objects are uploaded by ourselves rather than by the client library's manager of
// transfers. That one reads 16 MiB before it sends any of it, and then holds two parts
// more, all of them made anew for each object: four at once took 165 MiB. Here the
// memory of an upload is one part, made of chunks that are used again, and what
// it may read ahead while that is sent, which all uploads of a store share.
//
//	src --> chunk chunk ...                part n+1: as far as there are spare chunks
//	        chunk chunk chunk chunk ... --> part n: being sent, maybe again

// maxParts is how many parts an object may have (Amazon S3, "multipart upload limits").
const maxParts = 10_000

// spareChunks are those that all uploads of a store together may read ahead: 2 MiB.
const spareChunks = 2 << 20 / copySize

// contentType is the same for all: what a payload is, its claim says.
const contentType = "application/octet-stream"

// uploader puts objects into a bucket.
type uploader struct {
	*uploads
	partSize int64
	spare    chan struct{} // holds one for each spare chunk in use
}

func newUploader(u *uploads, partSize int64) *uploader {
	return &uploader{uploads: u, partSize: partSize, spare: make(chan struct{}, spareChunks)}
}

// put sends what src yields: in one request if it is less than a part. When it
// returns, src is not read any more.
func (u *uploader) put(ctx context.Context, name string, src io.Reader) error {
	up := &upload{uploader: u, ctx: ctx, name: name, src: src}
	defer up.next.free()
	if err := up.read(); err != nil {
		return err
	}
	if up.ended {
		return up.whole()
	}
	if err := up.begin(); err != nil {
		return err
	}
	err := up.all()
	if err == nil {
		err = up.complete()
	}
	if err != nil {
		return errors.Join(err, up.abort())
	}
	return nil
}

// upload is an object on its way. Its methods are called by one goroutine; send
// starts another for as long as a part is being sent.
type upload struct {
	*uploader
	ctx  context.Context //nolint:containedctx // it is the Put's
	name string
	src  io.Reader

	id    *string
	parts []types.CompletedPart
	next  part // being read
	ended bool // next is the last one

	sent   chan sent // what comes of the part that is being sent; nil if none is
	spared int       // spare chunks that next has
}

type sent struct {
	part types.CompletedPart
	err  error
}

// all sends one part after the other, and reads the next one meanwhile.
func (up *upload) all() error {
	for {
		if len(up.parts) == maxParts {
			return fmt.Errorf("more than %d parts of %d bytes", maxParts, up.partSize)
		}
		up.send()
		if up.ended {
			return up.wait()
		}
		err := up.read()
		if err := errors.Join(err, up.wait()); err != nil {
			return err
		}
		if up.next.size == 0 { // it ended with the part before
			return nil
		}
	}
}

// read fills the next part, which has less than the size of one only at the end.
func (up *upload) read() error {
	for up.next.size < up.partSize {
		at := up.next.size % copySize
		if at == 0 {
			c, err := up.chunk()
			if err != nil {
				return err
			}
			up.next.chunks = append(up.next.chunks, c)
		}
		last := up.next.chunks[len(up.next.chunks)-1]
		n, err := up.src.Read(last[at:min(copySize, at+up.partSize-up.next.size)])
		up.next.size += int64(n)
		if err == io.EOF { //nolint:errorlint // a wrapped io.EOF is an error
			up.ended = true
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// chunk gets memory. While a part is being sent, and there are no spare chunks, it
// waits for that: then that part's can be used.
func (up *upload) chunk() (*[copySize]byte, error) {
	if up.sent != nil {
		select {
		case up.spare <- struct{}{}:
			up.spared++
		default:
			if err := up.wait(); err != nil {
				return nil, err
			}
		}
	}
	c, _ := copyBuffers.Get().(*[copySize]byte)
	return c, nil
}

// send begins to send the next part.
func (up *upload) send() {
	p, number := up.next, aws.Int32(int32(len(up.parts)+1))
	up.next, up.sent = part{}, make(chan sent, 1)
	go func(to chan<- sent) {
		out, err := up.client.UploadPart(up.ctx, &s3.UploadPartInput{
			Bucket: &up.bucket, Key: &up.name, UploadId: up.id, PartNumber: number, Body: p.body(),
		})
		p.free()
		if err != nil {
			to <- sent{err: err}
			return
		}
		to <- sent{part: types.CompletedPart{PartNumber: number, ETag: out.ETag}}
	}(up.sent)
}

// wait returns when no part is being sent. What was read meanwhile is no longer
// ahead.
func (up *upload) wait() error {
	if up.sent == nil {
		return nil
	}
	s := <-up.sent
	up.sent = nil
	for ; up.spared > 0; up.spared-- {
		<-up.spare
	}
	if s.err == nil {
		up.parts = append(up.parts, s.part)
	}
	return s.err
}

func (up *upload) whole() error {
	_, err := up.client.PutObject(up.ctx, &s3.PutObjectInput{
		Bucket: &up.bucket, Key: &up.name, ContentType: aws.String(contentType), Body: up.next.body(),
	})
	return err
}

func (up *upload) begin() error {
	out, err := up.client.CreateMultipartUpload(up.ctx, &s3.CreateMultipartUploadInput{
		Bucket: &up.bucket, Key: &up.name, ContentType: aws.String(contentType),
	})
	if err == nil {
		up.id = out.UploadId
	}
	return err
}

func (up *upload) complete() error {
	_, err := up.client.CompleteMultipartUpload(up.ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &up.bucket, Key: &up.name, UploadId: up.id,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: up.parts},
	})
	return err
}

// abortTime is how long the server may take to forget an upload. What it keeps a
// sweep finds.
const abortTime = 10 * time.Second

// abort has the server forget the parts, also when the upload has no time left.
func (up *upload) abort() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(up.ctx), abortTime)
	defer cancel()
	if err := up.forget(ctx, up.name, aws.ToString(up.id)); err != nil {
		return fmt.Errorf("abort upload: %w", err)
	}
	return nil
}

// part is what is sent at a time.
type part struct {
	chunks []*[copySize]byte
	size   int64
}

// body yields the part; the client seeks in it, to sign it and to send it again.
func (p *part) body() io.ReadSeeker { return io.NewSectionReader(p, 0, p.size) }

// ReadAt implements io.ReaderAt.
func (p *part) ReadAt(to []byte, at int64) (int, error) {
	n := 0
	for n < len(to) && at < p.size {
		from := p.chunks[at/copySize][at%copySize:]
		k := copy(to[n:], from[:min(int64(len(from)), p.size-at)])
		n, at = n+k, at+int64(k)
	}
	if n < len(to) {
		return n, io.EOF
	}
	return n, nil
}

// free gives the memory back. The client has let go of a body when its call has
// returned, whatever came of it.
func (p *part) free() {
	for _, c := range p.chunks {
		copyBuffers.Put(c)
	}
	*p = part{}
}
