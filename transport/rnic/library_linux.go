//go:build amd64 || arm64

package rnic

import (
	"errors"
	"runtime"
	"strings"
	"sync"

	"github.com/ebitengine/purego"
)

// A library is librdmacm and libibverbs: the addresses of their functions. What the fields' names
// do not tell is in rdma_cma.h and verbs.h.
type library struct {
	rdmaCreateEventChannel, rdmaDestroyEventChannel            uintptr
	rdmaCreateID, rdmaDestroyID                                uintptr
	rdmaBindAddr, rdmaListen, rdmaResolveAddr                  uintptr
	rdmaResolveRoute, rdmaConnect, rdmaAccept, rdmaReject      uintptr
	rdmaDisconnect, rdmaCreateQP, rdmaDestroyQP, rdmaSetOption uintptr
	rdmaGetCMEvent, rdmaAckCMEvent                             uintptr

	ibvAllocPD, ibvDeallocPD, ibvRegMR, ibvDeregMR uintptr
	ibvCreateCompChannel, ibvDestroyCompChannel    uintptr
	ibvCreateCQ, ibvDestroyCQ                      uintptr
	ibvGetCQEvent, ibvAckCQEvents                  uintptr
	ibvModifyQP, ibvQueryDevice                    uintptr
	ibvGetAsyncEvent, ibvAckAsyncEvent             uintptr

	errnoLocation uintptr // of the C library
}

// A symbol is a function and where its address goes.
type symbol struct {
	name string
	addr *uintptr
}

func (l *library) cm() []symbol {
	return []symbol{
		{"rdma_create_event_channel", &l.rdmaCreateEventChannel}, {"rdma_destroy_event_channel", &l.rdmaDestroyEventChannel},
		{"rdma_create_id", &l.rdmaCreateID}, {"rdma_destroy_id", &l.rdmaDestroyID},
		{"rdma_bind_addr", &l.rdmaBindAddr}, {"rdma_listen", &l.rdmaListen}, {"rdma_resolve_addr", &l.rdmaResolveAddr},
		{"rdma_resolve_route", &l.rdmaResolveRoute}, {"rdma_connect", &l.rdmaConnect},
		{"rdma_accept", &l.rdmaAccept}, {"rdma_reject", &l.rdmaReject}, {"rdma_disconnect", &l.rdmaDisconnect},
		{"rdma_create_qp", &l.rdmaCreateQP}, {"rdma_destroy_qp", &l.rdmaDestroyQP}, {"rdma_set_option", &l.rdmaSetOption},
		{"rdma_get_cm_event", &l.rdmaGetCMEvent}, {"rdma_ack_cm_event", &l.rdmaAckCMEvent},
	}
}

func (l *library) verbs() []symbol {
	return []symbol{
		{"ibv_alloc_pd", &l.ibvAllocPD}, {"ibv_dealloc_pd", &l.ibvDeallocPD},
		{"ibv_reg_mr", &l.ibvRegMR}, {"ibv_dereg_mr", &l.ibvDeregMR},
		{"ibv_create_comp_channel", &l.ibvCreateCompChannel}, {"ibv_destroy_comp_channel", &l.ibvDestroyCompChannel},
		{"ibv_create_cq", &l.ibvCreateCQ}, {"ibv_destroy_cq", &l.ibvDestroyCQ},
		{"ibv_get_cq_event", &l.ibvGetCQEvent}, {"ibv_ack_cq_events", &l.ibvAckCQEvents},
		{"ibv_modify_qp", &l.ibvModifyQP}, {"ibv_query_device", &l.ibvQueryDevice},
		{"ibv_get_async_event", &l.ibvGetAsyncEvent}, {"ibv_ack_async_event", &l.ibvAckAsyncEvent},
	}
}

// Names of the libraries; tests put others.
var (
	cmLibrary    = "librdmacm.so.1"
	verbsLibrary = "libibverbs.so.1"
)

// loaded returns the libraries, which stay loaded. A failure is tried again the next time, as
// packages can be installed meanwhile.
var loaded = struct {
	sync.Mutex
	l *library
}{}

func load() (*library, error) {
	loaded.Lock()
	defer loaded.Unlock()
	if loaded.l != nil {
		return loaded.l, nil
	}
	l, err := open(verbsLibrary, cmLibrary)
	if err != nil {
		return nil, err
	}
	loaded.l = l
	return l, nil
}

func open(verbs, cm string) (*library, error) {
	runtime.LockOSThread() // dlerror(3) tells a thread of its own errors
	defer runtime.UnlockOSThread()
	l := &library{}
	if err := bind(verbs, l.verbs()); err != nil {
		return nil, err
	}
	if err := bind(cm, l.cm()); err != nil {
		return nil, err
	}
	var err error
	if l.errnoLocation, err = purego.Dlsym(purego.RTLD_DEFAULT, "__errno_location"); err != nil {
		return nil, &UnavailableError{NoSystem, tidy(err)} // another C library than glibc or musl
	}
	return l, nil
}

// bind loads a library and looks up its functions.
func bind(name string, symbols []symbol) error {
	handle, err := purego.Dlopen(name, purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return &UnavailableError{NoLibrary, tidy(err)}
	}
	for _, s := range symbols {
		if *s.addr, err = purego.Dlsym(handle, s.name); err != nil {
			return &UnavailableError{OldLibrary, tidy(err)}
		}
	}
	return nil
}

// tidy is an error of the loader without the newlines that some have.
func tidy(err error) error { return errors.New(strings.TrimSpace(err.Error())) }
