"""Every method of etcd's v3 API, as a value: its path with the types of its request and answer.

The seam (``splitvote.harness.etcd.rpc``) takes these values, so that a call is
typed from end to end and the simulated etcd can dispatch on them.  Source:
proto/*.proto; a test compares this table with the services there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from splitvote.harness.etcd.stubs import election_pb2 as election
from splitvote.harness.etcd.stubs import lock_pb2 as lock
from splitvote.harness.etcd.stubs import rpc_pb2 as rpc

if TYPE_CHECKING:
    from google.protobuf.message import Message

Q = TypeVar("Q", bound="Message")
A = TypeVar("A", bound="Message")


@dataclass(frozen=True, slots=True, eq=False)
class Method(Generic[Q, A]):
    """One RPC; there is one value a method, compared by identity (a dictionary of them is cheap)."""

    path: str
    request: type[Q]
    answer: type[A]

    def __str__(self) -> str:
        return self.path


_KV: Final = "/etcdserverpb.KV/"
RANGE: Final = Method(_KV + "Range", rpc.RangeRequest, rpc.RangeResponse)
PUT: Final = Method(_KV + "Put", rpc.PutRequest, rpc.PutResponse)
DELETE_RANGE: Final = Method(_KV + "DeleteRange", rpc.DeleteRangeRequest, rpc.DeleteRangeResponse)
TXN: Final = Method(_KV + "Txn", rpc.TxnRequest, rpc.TxnResponse)
COMPACT: Final = Method(_KV + "Compact", rpc.CompactionRequest, rpc.CompactionResponse)

PROBE: Final = rpc.RangeRequest(key=b"splitvote/probe", count_only=True)
"""A linearizable read that asks for next to nothing: of a key that nobody writes, whether it is there."""

WATCH: Final = Method("/etcdserverpb.Watch/Watch", rpc.WatchRequest, rpc.WatchResponse)

_LEASE: Final = "/etcdserverpb.Lease/"
LEASE_GRANT: Final = Method(_LEASE + "LeaseGrant", rpc.LeaseGrantRequest, rpc.LeaseGrantResponse)
LEASE_REVOKE: Final = Method(_LEASE + "LeaseRevoke", rpc.LeaseRevokeRequest, rpc.LeaseRevokeResponse)
LEASE_KEEP_ALIVE: Final = Method(_LEASE + "LeaseKeepAlive", rpc.LeaseKeepAliveRequest, rpc.LeaseKeepAliveResponse)
LEASE_TIME_TO_LIVE: Final = Method(_LEASE + "LeaseTimeToLive", rpc.LeaseTimeToLiveRequest, rpc.LeaseTimeToLiveResponse)
LEASE_LEASES: Final = Method(_LEASE + "LeaseLeases", rpc.LeaseLeasesRequest, rpc.LeaseLeasesResponse)

_CLUSTER: Final = "/etcdserverpb.Cluster/"
MEMBER_ADD: Final = Method(_CLUSTER + "MemberAdd", rpc.MemberAddRequest, rpc.MemberAddResponse)
MEMBER_REMOVE: Final = Method(_CLUSTER + "MemberRemove", rpc.MemberRemoveRequest, rpc.MemberRemoveResponse)
MEMBER_UPDATE: Final = Method(_CLUSTER + "MemberUpdate", rpc.MemberUpdateRequest, rpc.MemberUpdateResponse)
MEMBER_LIST: Final = Method(_CLUSTER + "MemberList", rpc.MemberListRequest, rpc.MemberListResponse)
MEMBER_PROMOTE: Final = Method(_CLUSTER + "MemberPromote", rpc.MemberPromoteRequest, rpc.MemberPromoteResponse)

_MAINTENANCE: Final = "/etcdserverpb.Maintenance/"
ALARM: Final = Method(_MAINTENANCE + "Alarm", rpc.AlarmRequest, rpc.AlarmResponse)
STATUS: Final = Method(_MAINTENANCE + "Status", rpc.StatusRequest, rpc.StatusResponse)
DEFRAGMENT: Final = Method(_MAINTENANCE + "Defragment", rpc.DefragmentRequest, rpc.DefragmentResponse)
HASH: Final = Method(_MAINTENANCE + "Hash", rpc.HashRequest, rpc.HashResponse)
HASH_KV: Final = Method(_MAINTENANCE + "HashKV", rpc.HashKVRequest, rpc.HashKVResponse)
SNAPSHOT: Final = Method(_MAINTENANCE + "Snapshot", rpc.SnapshotRequest, rpc.SnapshotResponse)
MOVE_LEADER: Final = Method(_MAINTENANCE + "MoveLeader", rpc.MoveLeaderRequest, rpc.MoveLeaderResponse)
DOWNGRADE: Final = Method(_MAINTENANCE + "Downgrade", rpc.DowngradeRequest, rpc.DowngradeResponse)

_AUTH: Final = "/etcdserverpb.Auth/"
AUTH_ENABLE: Final = Method(_AUTH + "AuthEnable", rpc.AuthEnableRequest, rpc.AuthEnableResponse)
AUTH_DISABLE: Final = Method(_AUTH + "AuthDisable", rpc.AuthDisableRequest, rpc.AuthDisableResponse)
AUTH_STATUS: Final = Method(_AUTH + "AuthStatus", rpc.AuthStatusRequest, rpc.AuthStatusResponse)
AUTHENTICATE: Final = Method(_AUTH + "Authenticate", rpc.AuthenticateRequest, rpc.AuthenticateResponse)
USER_ADD: Final = Method(_AUTH + "UserAdd", rpc.AuthUserAddRequest, rpc.AuthUserAddResponse)
USER_GET: Final = Method(_AUTH + "UserGet", rpc.AuthUserGetRequest, rpc.AuthUserGetResponse)
USER_LIST: Final = Method(_AUTH + "UserList", rpc.AuthUserListRequest, rpc.AuthUserListResponse)
USER_DELETE: Final = Method(_AUTH + "UserDelete", rpc.AuthUserDeleteRequest, rpc.AuthUserDeleteResponse)
USER_CHANGE_PASSWORD: Final = Method(
    _AUTH + "UserChangePassword", rpc.AuthUserChangePasswordRequest, rpc.AuthUserChangePasswordResponse
)
USER_GRANT_ROLE: Final = Method(_AUTH + "UserGrantRole", rpc.AuthUserGrantRoleRequest, rpc.AuthUserGrantRoleResponse)
USER_REVOKE_ROLE: Final = Method(
    _AUTH + "UserRevokeRole", rpc.AuthUserRevokeRoleRequest, rpc.AuthUserRevokeRoleResponse
)
ROLE_ADD: Final = Method(_AUTH + "RoleAdd", rpc.AuthRoleAddRequest, rpc.AuthRoleAddResponse)
ROLE_GET: Final = Method(_AUTH + "RoleGet", rpc.AuthRoleGetRequest, rpc.AuthRoleGetResponse)
ROLE_LIST: Final = Method(_AUTH + "RoleList", rpc.AuthRoleListRequest, rpc.AuthRoleListResponse)
ROLE_DELETE: Final = Method(_AUTH + "RoleDelete", rpc.AuthRoleDeleteRequest, rpc.AuthRoleDeleteResponse)
ROLE_GRANT_PERMISSION: Final = Method(
    _AUTH + "RoleGrantPermission", rpc.AuthRoleGrantPermissionRequest, rpc.AuthRoleGrantPermissionResponse
)
ROLE_REVOKE_PERMISSION: Final = Method(
    _AUTH + "RoleRevokePermission", rpc.AuthRoleRevokePermissionRequest, rpc.AuthRoleRevokePermissionResponse
)

LOCK: Final = Method("/v3lockpb.Lock/Lock", lock.LockRequest, lock.LockResponse)
UNLOCK: Final = Method("/v3lockpb.Lock/Unlock", lock.UnlockRequest, lock.UnlockResponse)

_ELECTION: Final = "/v3electionpb.Election/"
CAMPAIGN: Final = Method(_ELECTION + "Campaign", election.CampaignRequest, election.CampaignResponse)
PROCLAIM: Final = Method(_ELECTION + "Proclaim", election.ProclaimRequest, election.ProclaimResponse)
LEADER: Final = Method(_ELECTION + "Leader", election.LeaderRequest, election.LeaderResponse)
OBSERVE: Final = Method(_ELECTION + "Observe", election.LeaderRequest, election.LeaderResponse)
RESIGN: Final = Method(_ELECTION + "Resign", election.ResignRequest, election.ResignResponse)

METHODS: Final = {value.path: value for value in tuple(globals().values()) if isinstance(value, Method)}
"""Every method by its path."""
