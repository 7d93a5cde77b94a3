package transport

// Opcode names the operation of a work request or a completion.
type Opcode uint8

const (
	OpSend           Opcode = iota // RDMAP Send (RFC 5040 §5.3)
	OpSendInvalidate               // Send with Invalidate of SendWR.Invalidate, a region of the peer
	OpWrite                        // RDMA Write of Data to the peer's region
	OpRead                         // RDMA Read from the peer's region to Data
	OpRecv                         // completions only: a Send has arrived

	// OpWriteImmediate is an OpWrite, possibly of no bytes, that ends with the message
	// SendWR.Immediate for the peer, which takes a receive there. It is for queue pairs with
	// Attributes.Immediate.
	OpWriteImmediate
	OpRecvImmediate // completions only: a peer's OpWriteImmediate has arrived; nothing is placed in the receive's Data
)

// String returns the name of the operation in lower case.
func (o Opcode) String() string {
	names := [...]string{"send", "send-invalidate", "write", "read", "recv", "write-immediate", "recv-immediate"}
	if int(o) < len(names) {
		return names[o]
	}
	return "unknown opcode"
}

// Flags modify a send work request.
type Flags uint8

const (
	// Signaled asks for a completion on success. Failures always complete.
	Signaled Flags = 1 << iota
	// Solicited sets the Solicited Event bit of a Send.
	Solicited
	// Fence holds the request back until all RDMA Reads before it have completed.
	Fence
	// Inline has the data taken over before PostSend returns, so that the caller may reuse it at once
	// and it needs no region. Its length is limited by Attributes.MaxInline. Not for reads.
	Inline
	// WillDrain says that the caller will go on to call Drain, to which a software transport may then
	// leave the sending. Without it the request is sent in any case.
	WillDrain
	// Lent, with Inline and WillDrain, leaves the data with the caller, which must not change it until
	// Drain has returned, whatever that returns. A software transport then need not copy what it
	// cannot send at once.
	Lent
)

// A SendWR is a request for the send queue.
type SendWR struct {
	ID     uint64 // given back in the completion
	Opcode Opcode
	Flags  Flags

	// Data is the payload, or for OpRead the sink. Without Inline it belongs to the queue pair
	// until the completion. At most 2^32-1 bytes.
	Data []byte
	// Region is the local region that Data lies in. OpRead needs one with LocalWrite; others may
	// leave it nil with Inline.
	Region MemoryRegion

	RemoteSTag   STag   // OpWrite, OpWriteImmediate, OpRead
	RemoteOffset uint64 // tagged offset in the peer's region, for OpWrite, OpWriteImmediate and OpRead
	Invalidate   STag   // OpSendInvalidate: the peer's region to revoke
	Immediate    uint32 // OpWriteImmediate
}

// A RecvWR is a buffer for one inbound Send.
type RecvWR struct {
	ID     uint64
	Data   []byte
	Region MemoryRegion // the region that Data lies in, with LocalWrite
}

// A Completion reports the end of a work request.
type Completion struct {
	ID     uint64
	Opcode Opcode
	Status Status
	Bytes  int // received, read, or written by the peer

	Immediate uint32  // OpRecvImmediate
	Word      [4]byte // OpRecv: what the Send was, for a receive of WordReceiver.PostWords

	Solicited   bool // OpRecv: the Send asked for a solicited event
	Invalidated STag // OpRecv: the region that the peer's Send revoked; 0 if none
}

// Status says how a work request ended.
type Status uint8

const (
	StatusSuccess          Status = iota
	StatusFlushed                 // the queue pair failed or was closed first
	StatusLocalLength             // an inbound Send was longer than the buffer
	StatusLocalProtection         // the local buffer is not covered by its region
	StatusRemoteAccess            // the peer refused access to its region
	StatusRemoteOperation         // the peer could not carry out the operation
	StatusInvalidateFailed        // an inbound Send asked for an Invalidate that is not allowed
)

// String returns the meaning of the status in words.
func (s Status) String() string {
	names := [...]string{"success", "flushed", "local length error", "local protection error",
		"remote access error", "remote operation error", "invalidate failed"}
	if int(s) < len(names) {
		return names[s]
	}
	return "unknown status"
}
