// A model server that costs next to nothing, so that a gateway before it is what gets measured.
//
// It answers POST with a chat completion of some 500 bytes, or with a stream of events where the
// body says "stream":true. Of the rest of the body it reads two numbers: max_tokens is the number
// of content events, seed how many a second (0: all at once). Each event bears its number and the
// time of its writing, in nanoseconds: "content":" 0000007@1700000000000000000". Anything but POST
// is answered with a list of one model. In Go, because it shares one core with the load.
package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"strconv"
	"time"
)

const (
	bodyMax       = 64 << 20
	readerBytes   = 4 << 10
	defaultEvents = 16

	chunkHead = `data: {"id":"chatcmpl-00000000000000000000000000000000",` +
		`"object":"chat.completion.chunk","created":1700000000,"model":"mock",`
	finish = chunkHead + `"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n"
	usage  = chunkHead + `"choices":[],` +
		`"usage":{"prompt_tokens":40,"completion_tokens":60,"total_tokens":100}}` + "\n\n"
	role = chunkHead + `"choices":[{"index":0,` +
		`"delta":{"role":"assistant","content":""},"finish_reason":null}]}` + "\n\n"
	done       = "data: [DONE]\n\n"
	streamHead = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n" +
		"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
	completion = `{"id":"chatcmpl-00000000000000000000000000000000","object":"chat.completion",` +
		`"created":1700000000,"model":"mock","choices":[{"index":0,"message":{"role":"assistant",` +
		`"content":"A scheduler looks at what a pod asks for, drops every node that cannot hold ` +
		`it, scores the ones that are left by how well they fit, and binds the pod to the best."},` +
		`"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":40,` +
		`"completion_tokens":60,"total_tokens":100},"system_fingerprint":"mock"}`
	models = `{"object":"list","data":[{"id":"mock","object":"model","created":1700000000,` +
		`"owned_by":"mock"}]}`
)

var (
	wholeAnswer  = jsonAnswer(completion)
	modelsAnswer = jsonAnswer(models)
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8000", "address to listen on")
	flag.Parse()
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go serve(conn)
	}
}

func jsonAnswer(body string) []byte {
	return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"+
		"content-length: %d\r\n\r\n%s", len(body), body)
}

// serve answers the requests of one connection, one after another.
func serve(conn net.Conn) {
	defer conn.Close()
	reader := bufio.NewReaderSize(conn, readerBytes)
	var body []byte
	for {
		post, length, err := readHead(reader)
		if err != nil || length > bodyMax {
			return
		}
		if cap(body) < length {
			body = make([]byte, length)
		}
		body = body[:length]
		if _, err = io.ReadFull(reader, body); err != nil {
			return
		}
		switch {
		case !post:
			_, err = conn.Write(modelsAnswer)
		case says(body, "stream"):
			err = stream(conn, body)
		default:
			_, err = conn.Write(wholeAnswer)
		}
		if err != nil {
			return
		}
	}
}

// readHead reads a request's head. A body must come with its length.
func readHead(reader *bufio.Reader) (post bool, length int, err error) {
	for first := true; ; first = false {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			return false, 0, err
		}
		if first {
			post = bytes.HasPrefix(line, []byte("POST "))
			continue
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			return post, length, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if bytes.EqualFold(name, []byte("content-length")) {
			length, err = strconv.Atoi(string(bytes.TrimSpace(value)))
			if err != nil {
				return false, 0, err
			}
		}
		if bytes.EqualFold(name, []byte("transfer-encoding")) {
			return false, 0, fmt.Errorf("a body without a length")
		}
	}
}

// stream writes the events that a request asks for, each at its time.
func stream(conn net.Conn, ask []byte) error {
	events, rate := number(ask, "max_tokens", defaultEvents), number(ask, "seed", 0)
	out := append(make([]byte, 0, 2<<10), streamHead...)
	out = appendChunk(out, role)
	began := time.Now()
	for event := range events {
		if rate > 0 && event > 0 {
			time.Sleep(time.Until(began.Add(time.Duration(event) * time.Second / time.Duration(rate))))
		}
		out = appendChunk(out, fmt.Sprintf(
			`%s"choices":[{"index":0,"delta":{"content":" %07d@%019d"},"finish_reason":null}]}`+"\n\n",
			chunkHead, event, time.Now().UnixNano()))
		if _, err := conn.Write(out); err != nil {
			return err
		}
		out = out[:0]
	}
	out = appendChunk(out, finish)
	if says(ask, "include_usage") {
		out = appendChunk(out, usage)
	}
	out = append(appendChunk(out, done), "0\r\n\r\n"...)
	_, err := conn.Write(out)
	return err
}

// appendChunk appends data in the framing of HTTP's chunked coding.
func appendChunk(out []byte, data string) []byte {
	out = strconv.AppendInt(out, int64(len(data)), 16)
	out = append(out, "\r\n"...)
	out = append(out, data...)
	return append(out, "\r\n"...)
}

// says tells whether a JSON text has "name": true.
func says(text []byte, name string) bool {
	return bytes.HasPrefix(after(text, name), []byte("true"))
}

// number returns the whole number that a JSON text has under a name.
func number(text []byte, name string, otherwise int) int {
	found := after(text, name)
	end := 0
	for end < len(found) && found[end] >= '0' && found[end] <= '9' {
		end++
	}
	value, err := strconv.Atoi(string(found[:end]))
	if err != nil {
		return otherwise
	}
	return value
}

// after returns what follows "name": in a JSON text, nil where it has no such name.
func after(text []byte, name string) []byte {
	_, found, _ := bytes.Cut(text, []byte(`"`+name+`":`))
	return bytes.TrimLeft(found, " ")
}
