package mem_test

import (
	"context"
	"fmt"
	"io"
	"time"

	"bzzz/transport"
	"bzzz/transport/mem"
)

func Example() {
	net := mem.New(mem.Options{
		Seed: 1,
		Link: mem.LinkProfile{Latency: time.Millisecond, Loss: 0.1},
	})
	alice, bob := net.Node("alice"), net.Node("bob")
	defer alice.Close()
	defer bob.Close()
	ctx := context.Background()

	dialed := make(chan transport.Stream)
	go func() {
		s, err := alice.Dial(ctx, "bob")
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(s, "hello")
		s.CloseWrite()
		dialed <- s
	}()
	s, err := bob.Accept(ctx)
	if err != nil {
		panic(err)
	}
	b, err := io.ReadAll(s)
	fmt.Printf("%s says %s, error %v\n", s.Peer(), b, err)

	net.Cut("alice", "bob")
	_, err = (<-dialed).Read(b)
	fmt.Println(err)
	// Output:
	// alice says hello, error <nil>
	// mem.Stream bob: unavailable: stream cut
}

func ExamplePipe() {
	a, b := mem.Pipe(mem.Options{})
	defer a.Close()
	defer b.Close()
	fmt.Fprintf(a, "within a process")
	a.CloseWrite()
	data, _ := io.ReadAll(b)
	fmt.Println(string(data))
	// Output: within a process
}
