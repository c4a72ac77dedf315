-- Orthanc sends every ultrasound image that it receives on to busmap, except what came from there.
-- A job that fails stays in Orthanc's list of jobs (/jobs); send the study again from there, or by
--   curl -X POST http://127.0.0.1:8042/modalities/busmap/store -d STUDY
function OnStoredInstance(instanceId, tags, metadata, origin)
  if tags['Modality'] == 'US' and origin['RemoteAet'] ~= 'BUSMAP' then
    SendToModality(instanceId, 'busmap')
  end
end
