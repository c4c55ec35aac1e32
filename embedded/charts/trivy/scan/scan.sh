# Looks at each image of /scratch/images with Trivy and writes lines of JSON; values.yaml says which. Arguments are Trivy's.
set -u

# line KIND STATUS FIELDS
line() {
  printf '{"kind":"%s","status":"%s","node":"%s",%s}\n' "$1" "$2" "$NODE" "$3"
}

# quote makes text fit into a JSON string
quote() {
  tr '\n\r\t' '   ' | tr -d '\000-\037' | tail -c 1500 | sed 's/\\/\\\\/g; s/"/\\"/g'
}

images=$(wc -l < /scratch/images)
if [ -n "${SERVER:-}" ]; then
  # the server has the database, and does not start without; a node has one only to look archives of Java up in
  database="{\"server\":\"$SERVER\"}"
elif [ -s /database/db/trivy.db ] && [ -s /database/db/metadata.json ]; then
  database=$(tr -d '\n' < /database/db/metadata.json)
else
  line scan 'no database' "\"images\":$images"
  exit 1
fi
if [ -s /database/java-db/trivy-java.db ]; then
  java=true
else
  # Trivy would want to download what it looks archives up in
  java=false
  set -- "$@" --skip-files '**/*.jar' --skip-files '**/*.war' --skip-files '**/*.ear' --skip-files '**/*.par'
fi
line scan started "\"images\":$images,\"java\":$java,\"database\":$database"

failed=0
while read -r REFERENCE IMAGE POD; do
  export REFERENCE IMAGE POD
  # the shell's own word for one that is killed is no JSON
  if { said=$(trivy image "$@" "$REFERENCE" 2>&1 >/scratch/found < /dev/null); } 2>/dev/null; then
    cat /scratch/found
  else
    status=$?
    failed=$((failed + 1))
    if [ "$status" -eq 137 ]; then
      said="${said:+$said }killed, as it is for using more memory than its limit (resources.limits.memory)"
    elif [ -z "$said" ]; then
      said="ended with status $status"
    fi
    line image failed "\"image\":\"$IMAGE\",\"reference\":\"$REFERENCE\",\"pod\":\"$POD\",\"error\":\"$(printf '%s' "$said" | quote)\""
  fi
done < /scratch/images

if [ "$failed" -gt 0 ]; then
  line scan incomplete "\"images\":$images,\"failed\":$failed"
  exit 1
fi
line scan complete "\"images\":$images,\"failed\":0"
