-- The health of a ModelBackend or a RoutingPolicy in Argo CD.

local status = obj.status or {}

local found = {}
for _, condition in ipairs(status.conditions or {}) do
  found[condition.type] = condition
end

local function is(type, value)
  return found[type] ~= nil and found[type].status == value
end

local function says(health, type)
  return {status = health, message = found[type].reason .. ": " .. (found[type].message or "")}
end

if status.observedGeneration == nil then
  return {status = "Progressing", message = "Waiting for the operator"}
end
if status.observedGeneration ~= obj.metadata.generation then
  return {
    status = "Progressing",
    message = "Waiting for the operator: the status is of generation "
      .. tostring(status.observedGeneration) .. ", not " .. tostring(obj.metadata.generation),
  }
end
if is("Accepted", "False") then
  return says("Degraded", "Accepted")
end
if is("Stalled", "True") then
  return says("Degraded", "Stalled")
end
if is("ResolvedRefs", "False") then
  return says("Degraded", "ResolvedRefs")
end
if is("Ready", "True") then
  local healthy = says("Healthy", "Ready")
  if is("Degraded", "True") then
    healthy.message = healthy.message .. "; but " .. says("", "Degraded").message
  end
  return healthy
end
if is("Ready", "False") and is("Degraded", "True") and not is("Reconciling", "True") then
  return says("Degraded", "Ready")
end
if found["Ready"] ~= nil then
  return says("Progressing", "Ready")
end
return {status = "Progressing", message = "Waiting for the operator"}
