"""Every route of the REST API in one table (API.md §2.6): what it is called, who serves it, what the document says.

`app.py` registers the rows in this order, so rows come hot ones first, and fixed names before greedy ids. Models are
named, and looked up in `models/`. A row with `serve="later"` exists and answers 501 (DECISIONS 14).
"""

from __future__ import annotations

from dataclasses import replace

from ..entities.model import Kind
from .route_rows import ALL, BUSY, FILE, NO_LIFECYCLE, Row, collections, each, lock, relations, script, server, update

ROWS: tuple[Row, ...] = (
    *server(
        "Server",
        Row("GET", "/health", "getHealth", "Whether the gateway works", "HealthStatus", serve="health"),
        Row("GET", "", "getRoot", "What the gateway offers", "RootOverview", serve="root"),
        Row(
            "GET", "/version-info", "getVersionInfo", "Versions of the API", "VersionInfo", serve="versionInfo",
            query=("partial",),
        ),
    ),
    *collections(),
    # Before ids: `/apps/docs` and `/apps/x/data/docs` are descriptions (API.md §1.1).
    Row("GET", "/docs", serve="docs"),
    Row("GET", "/{path:path}/docs", serve="docs"),
    *each(
        ALL,
        "Data",
        Row("GET", "/data", "list<K>Data", "Data items of one <k>", "DataList", serve="listData", query=("partial",)),
        Row("GET", "/data/{data_id}", "get<K>DataItem", "Read a data item of one <k>", "DataValue", serve="readData"),
        Row(
            "PUT", "/data/{data_id}", "put<K>DataItem", "Write a data item of one <k>", "DataWriteResult",
            body="DataWriteRequest", serve="writeData",
        ),
        Row(
            "GET", "/data-categories", "list<K>DataCategories", "Data categories of one <k>", "DataList",
            serve="noDataGrouping",
        ),
        Row("GET", "/data-groups", "list<K>DataGroups", "Data groups of one <k>", "DataList", serve="noDataGrouping"),
    ),
    *each(ALL, "Discovery", Row("GET", "", "get<K>", "One <k>", "<K>Detail", serve="snapshot", etag=True)),
    *relations(
        Kind.AREA,
        ("subareas", "listSubareas", "AreaList"),
        ("components", "listAreaComponents", "ComponentList"),
        ("contains", "listAreaContains", "ComponentList"),
    ),
    *relations(
        Kind.COMPONENT,
        ("subcomponents", "listSubcomponents", "ComponentList"),
        ("hosts", "listComponentHosts", "AppList"),
        ("depends-on", "listComponentDependencies", "ComponentList"),
    ),
    *relations(
        Kind.APP,
        ("is-located-on", "getAppHost", "ComponentList"),
        ("belongs-to", "getAppArea", "AreaList"),
        ("depends-on", "listAppDependencies", "AppList"),
    ),
    *relations(Kind.FUNCTION, ("hosts", "listFunctionHosts", "AppList")),
    *server(
        "Faults",
        Row(
            "GET", "/faults", "listAllFaults", "All faults", "FaultList", serve="listAllFaults",
            query=("status", "include_muted", "include_clusters", "partial"),
        ),
        Row(
            "DELETE", "/faults", "clearAllFaults", "Clear all faults of this gateway", status=204,
            serve="clearAllFaults", query=("status",),
        ),
        Row(
            "GET", "/faults/stream", "streamFaults", "Event stream (SSE) of all faults", stream=True,
            serve="streamFaults",
        ),
    ),
    *each(
        ALL,
        "Faults",
        Row(
            "GET", "/faults", "list<K>Faults", "Faults of one <k>", "FaultList", serve="listFaults",
            query=("status", "partial"),
        ),
        Row(
            "DELETE", "/faults", "clearAll<K>Faults", "Clear the faults of one <k>", status=204, serve="clearFaults"
        ),
        Row(
            "GET", "/faults/{fault_code}", "get<K>Fault", "One fault of one <k>", "FaultDetail", serve="getFault"
        ),
        Row(
            "DELETE", "/faults/{fault_code}", "clear<K>Fault", "Clear one fault of one <k>", status=204,
            serve="clearFault",
        ),
    ),
    *server(
        "Federation",
        Row("GET", "/x-medkit/tree", "getTree", "The tree as peers read it", "TreeDocument", serve="tree", etag=True),
        Row(
            "GET", "/x-medkit/tree/stream", "streamTree", "Event stream (SSE) of changes of the tree", stream=True,
            serve="treeStream",
        ),
        Row(
            "GET", "/x-medkit/events", "streamEvents", "Event stream (SSE) of the tree, peers and faults", stream=True,
            serve="gatewayEvents",
        ),
        Row("GET", "/x-medkit/peers", "listPeers", "Peer gateways", "PeerList", serve="listPeers"),
        Row("GET", "/x-medkit/peers/{name}", "getPeer", "One peer gateway", "Peer", serve="getPeer"),
        Row(
            "POST", "/x-medkit/peers", "createPeer", "Add a peer gateway", "Peer", 201, "PeerCreateRequest",
            serve="createPeer",
        ),
        Row("DELETE", "/x-medkit/peers/{name}", "deletePeer", "Forget a peer gateway", status=204, serve="deletePeer"),
        Row("PUT", "/x-medkit/peers/{name}/pause", "pausePeer", "Stop asking a peer", "Peer", serve="pausePeer"),
        Row("PUT", "/x-medkit/peers/{name}/resume", "resumePeer", "Ask a peer again", "Peer", serve="resumePeer"),
        Row("GET", "/x-medkit/topology", "getTopology", "The graph of gateways", "Topology", serve="topology"),
        Row(
            "GET", "/x-medkit/fleet/faults", "getFleetFaults", "All faults, counted", "FleetFaults",
            serve="fleetFaults", query=("status", "partial"),
        ),
    ),
    *each(
        ALL,
        "Operations",
        Row(
            "GET", "/operations", "list<K>Operations", "Operations of one <k>", "OperationList",
            serve="listOperations", query=("partial",),
        ),
        Row(
            "GET", "/operations/{operation_id}/executions/{execution_id}", "get<K>Execution",
            "One execution of one <k>", "OperationExecution", serve="getExecution",
        ),
        Row(
            "PUT", "/operations/{operation_id}/executions/{execution_id}", "update<K>Execution",
            "Control an execution of one <k>", "ExecutionCreateAsync", 202, "ExecutionUpdateRequest",
            serve="controlExecution", errors=(409,),
        ),
        Row(
            "DELETE", "/operations/{operation_id}/executions/{execution_id}", "cancel<K>Execution",
            "Cancel an execution of one <k>", status=204, serve="cancelExecution",
        ),
        Row(
            "GET", "/operations/{operation_id}/executions", "list<K>Executions", "Executions of one <k>",
            "OperationExecutionList", serve="listExecutions",
        ),
        Row(
            "POST", "/operations/{operation_id}/executions", "execute<K>Operation", "Start an operation of one <k>",
            "OperationExecutionResult", body="ExecutionCreateRequest", needs_body=False, serve="startExecution",
            also=((202, "ExecutionCreateAsync"),),
        ),
        Row(
            "GET", "/operations/{operation_id}", "get<K>Operation", "One operation of one <k>", "OperationDetail",
            serve="getOperation",
        ),
    ),
    *each(
        ALL,
        "Configuration",
        Row(
            "GET", "/configurations", "list<K>Configurations", "Parameters of one <k>", "ConfigurationList",
            serve="listConfigurations", query=("partial",),
        ),
        Row(
            "DELETE", "/configurations", "deleteAll<K>Configurations", "Reset all parameters of one <k>", status=204,
            also=((207, "ConfigurationDeleteMultiStatus"),), serve="resetConfigurations",
        ),
        Row(
            "GET", "/configurations/{config_id}", "get<K>Configuration", "One parameter of one <k>",
            "ConfigurationReadValue", serve="readConfiguration",
        ),
        Row(
            "PUT", "/configurations/{config_id}", "set<K>Configuration", "Set a parameter of one <k>",
            "ConfigurationReadValue", body="ConfigurationWriteRequest", serve="writeConfiguration",
        ),
        Row(
            "DELETE", "/configurations/{config_id}", "delete<K>Configuration", "Reset a parameter of one <k>",
            status=204, serve="resetConfiguration",
        ),
    ),
    *each(
        ALL,
        "Logs",
        Row(
            "GET", "/logs/configuration", "get<K>LogConfiguration", "Log settings of one <k>", "LogConfiguration",
            serve="readLogSettings",
        ),
        Row(
            "PUT", "/logs/configuration", "set<K>LogConfiguration", "Change log settings of one <k>", status=204,
            body="LogConfiguration", serve="writeLogSettings",
        ),
        Row(
            "GET", "/logs", "list<K>Logs", "Log lines of one <k>", "LogEntryList", serve="listLogs",
            query=("severity", "context", "partial"),
        ),
    ),
    *each(
        ALL,
        "Bulk Data",
        Row("GET", "/bulk-data", "list<K>BulkDataCategories", "Kinds of files of one <k>", "BulkDataCategoryList"),
        Row(
            "GET", "/bulk-data/{category_id}", "list<K>BulkDataDescriptors", "Files of one <k>",
            "BulkDataDescriptorList",
        ),
        Row(
            "GET", "/bulk-data/{category_id}/{file_id}", "download<K>BulkData", "Download a file of one <k>",
            FILE,
        ),
    ),
    *each(
        BUSY,
        "Bulk Data",
        Row(
            "POST", "/bulk-data/{category_id}", "upload<K>BulkData", "Upload a file of one <k>", "BulkDataDescriptor",
            201,
        ),
        Row(
            "DELETE", "/bulk-data/{category_id}/{file_id}", "delete<K>BulkData", "Delete a file of one <k>", status=204
        ),
    ),
    # Not for these kinds, whatever the id (API.md §1.6).
    *each(
        (Kind.AREA, Kind.FUNCTION),
        "Bulk Data",
        Row("POST", "/bulk-data/{category_id}", serve="noUpload"),
        Row("DELETE", "/bulk-data/{category_id}/{file_id}", serve="noDeletion"),
    ),
    *(
        row
        for kind, part, name in ((Kind.AREA, "subareas", "Subarea"), (Kind.COMPONENT, "subcomponents", "Subcomponent"))
        for row in each(
            (kind,),
            "Bulk Data",
            Row(
                "GET", f"/{part}/{{{name.lower()}_id}}/bulk-data", f"list{name}BulkDataCategories",
                f"Kinds of files of one {name.lower()}", "BulkDataCategoryList",
            ),
            Row(
                "GET", f"/{part}/{{{name.lower()}_id}}/bulk-data/{{category_id}}", f"list{name}BulkDataDescriptors",
                f"Files of one {name.lower()}", "BulkDataDescriptorList",
            ),
            Row(
                "GET", f"/{part}/{{{name.lower()}_id}}/bulk-data/{{category_id}}/{{file_id}}",
                f"download{name}BulkData", f"Download a file of one {name.lower()}", FILE,
            ),
        )
    ),
    *each(
        ALL,
        "Triggers",
        Row("GET", "/triggers", "list<K>Triggers", "Triggers of one <k>", "TriggerList"),
        Row(
            "POST", "/triggers", "create<K>Trigger", "Create a trigger of one <k>", "Trigger", 201,
            "TriggerCreateRequest",
        ),
        Row(
            "GET", "/triggers/{trigger_id}/events", "stream<K>TriggerEvents",
            "Event stream (SSE) of a trigger of one <k>", stream=True,
        ),
        Row("GET", "/triggers/{trigger_id}", "get<K>Trigger", "One trigger of one <k>", "Trigger"),
        Row(
            "PUT", "/triggers/{trigger_id}", "update<K>Trigger", "Change a trigger of one <k>", "Trigger",
            body="TriggerUpdateRequest",
        ),
        Row("DELETE", "/triggers/{trigger_id}", "delete<K>Trigger", "Delete a trigger of one <k>", status=204),
    ),
    *each(
        (Kind.APP, Kind.COMPONENT, Kind.FUNCTION),
        "Subscriptions",
        Row(
            "GET", "/cyclic-subscriptions", "list<K>Subscriptions", "Subscriptions of one <k>",
            "CyclicSubscriptionList",
        ),
        Row(
            "POST", "/cyclic-subscriptions", "create<K>Subscription", "Create a subscription of one <k>",
            "CyclicSubscription", 201, "CyclicSubscriptionCreateRequest",
        ),
        Row(
            "GET", "/cyclic-subscriptions/{subscription_id}/events", "stream<K>SubscriptionEvents",
            "Event stream (SSE) of a subscription of one <k>", stream=True,
        ),
        Row(
            "GET", "/cyclic-subscriptions/{subscription_id}", "get<K>Subscription", "One subscription of one <k>",
            "CyclicSubscription",
        ),
        Row(
            "PUT", "/cyclic-subscriptions/{subscription_id}", "update<K>Subscription",
            "Change a subscription of one <k>", "CyclicSubscription", body="CyclicSubscriptionUpdateRequest",
        ),
        Row(
            "DELETE", "/cyclic-subscriptions/{subscription_id}", "delete<K>Subscription",
            "Delete a subscription of one <k>", status=204,
        ),
    ),
    *each(
        BUSY,
        "Locking",
        lock("GET", "/locks", "list<K>Locks", "Locks of one <k>", "LockList"),
        lock("POST", "/locks", "acquire<K>Lock", "Take a lock of one <k>", "Lock", 201, "AcquireLockRequest"),
        lock("GET", "/locks/{lock_id}", "get<K>Lock", "One lock of one <k>", "Lock"),
        lock("PUT", "/locks/{lock_id}", "extend<K>Lock", "Extend a lock of one <k>", "", 204, "ExtendLockRequest"),
        lock("DELETE", "/locks/{lock_id}", "release<K>Lock", "Release a lock of one <k>", "", 204),
    ),
    *each(
        BUSY,
        "Scripts",
        script("GET", "/scripts", "list<K>Scripts", "Scripts of one <k>", "ScriptList"),
        script("POST", "/scripts", "upload<K>Script", "Upload a script of one <k>", "ScriptUploadResponse", 201),
        script(
            "GET", "/scripts/{script_id}/executions/{execution_id}", "get<K>ScriptExecution",
            "One run of a script of one <k>", "ScriptExecution",
        ),
        script(
            "PUT", "/scripts/{script_id}/executions/{execution_id}", "control<K>ScriptExecution",
            "Stop a script of one <k>", "ScriptExecution", 200, "ScriptControlRequest",
        ),
        script(
            "DELETE", "/scripts/{script_id}/executions/{execution_id}", "remove<K>ScriptExecution",
            "Forget a run of a script of one <k>", "", 204,
        ),
        script(
            "POST", "/scripts/{script_id}/executions", "start<K>ScriptExecution", "Run a script of one <k>",
            "ScriptExecution", 202, "ScriptStartRequest",
        ),
        script("GET", "/scripts/{script_id}", "get<K>Script", "One script of one <k>", "ScriptMetadata"),
        script("DELETE", "/scripts/{script_id}", "delete<K>Script", "Delete a script of one <k>", "", 204),
    ),
    *each(
        BUSY,
        "Lifecycle",
        Row(
            "GET", "/status", "get<K>Status", "Whether one <k> is ready", "LifecycleStatusResponse",
            serve="readStatus",
        ),
        *(
            Row(
                "PUT", f"/status/{action}", f"put<K>Status{action.title().replace('-', '')}",
                f"Request {action} of one <k>", status=202, message=NO_LIFECYCLE,
            )
            for action in ("start", "restart", "force-restart", "shutdown", "force-shutdown")
        ),
    ),
    *each(
        (Kind.APP,),
        "FaultTriggers",
        Row(
            "GET", "/fault-triggers", "listFaultTriggers", "Rules that raise faults", "FaultTriggerList",
            serve="noFaultTriggers",
        ),
        Row(
            "POST", "/fault-triggers", "createFaultTrigger", "Create a rule", "FaultTrigger", 201,
            "FaultTriggerCreateRequest", serve="noFaultTriggers",
        ),
        Row(
            "DELETE", "/fault-triggers/{trigger_id}", "deleteFaultTrigger", "Delete a rule", status=204,
            serve="noFaultTriggers",
        ),
    ),
    # Every function links to it (API.md §3.5); only a plugin would serve it.
    *each(
        (Kind.FUNCTION,),
        "Discovery",
        Row("GET", "/x-medkit-graph", "getFunctionGraph", "Graph of one <k>", "FunctionGraph"),
    ),
    *server(
        "Updates",
        replace(
            update("GET", "/updates", "listUpdates", "Software updates", "UpdateList"),
            query=("origin", "target-version"),
        ),
        update("POST", "/updates", "registerUpdate", "Register an update", "UpdateRegisterResponse", 201,
               "UpdateRegisterRequest"),
        update("GET", "/updates/{update_id}/status", "getUpdateStatus", "State of an update", "UpdateStatus"),
        update("PUT", "/updates/{update_id}/prepare", "prepareUpdate", "Prepare an update", "", 202),
        update("PUT", "/updates/{update_id}/execute", "executeUpdate", "Execute an update", "", 202),
        update("PUT", "/updates/{update_id}/automated", "automateUpdate", "Let an update run by itself", "", 202),
        update("GET", "/updates/{update_id}", "getUpdate", "One update", "UpdateDetail"),
        update("DELETE", "/updates/{update_id}", "deleteUpdate", "Delete an update", "", 204),
    ),
    *server(
        "Authentication",
        *(
            Row("POST", f"/auth/{name}", operation_id, summary, response, 200, body, serve)
            for name, operation_id, summary, response, body, serve in (
                ("authorize", "authorize", "Get a token", "AuthTokenResponse", "AuthCredentials", "authorize"),
                ("token", "getToken", "Refresh a token", "AuthTokenResponse", "AuthCredentials", "renewToken"),
                ("revoke", "revokeToken", "Revoke a token", "AuthRevokeResponse", "AuthRevokeRequest", "revokeToken"),
            )
        ),
    ),
    Row("GET", "/swagger-ui", serve="swaggerPage"),
    Row("GET", "/swagger-ui/{asset}", serve="swaggerAsset"),
)  # fmt: skip
