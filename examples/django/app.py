"""A chat behind Belfry, in Django (python3-django): python3 app.py runserver 8000; belfry -c ../belfry.ini; open port 8080."""
import base64, hmac, json, os, sys, time

from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import path
from django.views.decorators.http import require_POST

SECRET = os.environ["HOOK_SECRET"]
settings.configure(SECRET_KEY="login " + SECRET, ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1", "localhost"])
PAGE = """<!doctype html><meta charset=utf-8><title>Chat</title><ul id=list></ul><form id=talk><input id=text>
<button>Say</button> <button type=button id=news>Server, say it</button> <button type=button id=who>Who am I?</button></form>
<script>
const ws = new WebSocket(location.origin.replace("http", "ws") + "/ws", "belfry.v1.json"), room = "chat:lobby";
const show = (line) => list.appendChild(document.createElement("li")).textContent = line;
ws.onmessage = (event) => {
    const m = JSON.parse(event.data);
    if (m.type === "message") show((m.from ? m.from.user : "server") + ": " + m.data.text);
    if (m.id === 2) show("you are " + m.data.user);
};
const send = (request) => ws.send(JSON.stringify(request));
talk.onsubmit = () => { send({type: "publish", room, data: {text: text.value}}); return false; };
news.onclick = () => fetch("/say", {method: "POST", body: new URLSearchParams({text: text.value})});
who.onclick = () => send({type: "call", id: 2, method: "whoami", data: null});
</script>"""
user_of = lambda request: request.get_signed_cookie("user", None)
page = lambda request: HttpResponse(PAGE) if user_of(request) else redirect("/login")
def login(request):
    name = request.POST.get("name", "")
    if not name.isalnum() or len(name) > 32:
        return HttpResponse("<!doctype html><form method=post>Name <input name=name pattern='[A-Za-z0-9]+' required>")
    answer = redirect("/")
    answer.set_signed_cookie("user", name, httponly=True, samesite="Lax")
    return answer
@require_POST
def say(request):  # the answer is broadcast, too
    answer = JsonResponse({"text": request.POST.get("text", "")}, headers={"Belfry-Publish": "chat:lobby"})
    return answer if user_of(request) else HttpResponse(status=401)
def hook(request):
    head, key = request.headers, base64.b64decode(SECRET.removeprefix("whsec_"))
    sent = head.get("webhook-timestamp", "")
    signed = f"{head.get('webhook-id')}.{sent}.".encode() + request.body
    expected = b"v1," + base64.b64encode(hmac.digest(key, signed, "sha256"))
    if not hmac.compare_digest(head.get("webhook-signature", "").encode(), expected) or abs(time.time() - int(sent)) > 300:
        return HttpResponse(status=403)
    event = json.loads(request.body)
    if event["event"] == "connect":  # with the browser's own cookies
        answer = {"user": user_of(request), "rooms": ["chat:lobby"]}
        return JsonResponse(answer) if answer["user"] else HttpResponse(status=401)
    if event["event"] == "join" and event["room"] == "chat:staff" and event["user"] != "admin":
        return JsonResponse({"error": {"code": 403, "message": "staff only"}})
    if event["event"] == "call":
        unknown = {"error": {"code": 404, "message": "no such method"}}
        return JsonResponse({"data": {"user": event["user"]}} if event["method"] == "whoami" else unknown)
    return HttpResponse(status=204)

urlpatterns = [path("", page), path("login", login), path("say", say), path("belfry", hook)]
execute_from_command_line(sys.argv)
