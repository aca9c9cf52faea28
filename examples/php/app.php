<?php // A chat behind Belfry, in plain PHP (php-cli): php -S 127.0.0.1:8000 app.php; belfry -c ../belfry.ini; open port 8080.
$secret = getenv('HOOK_SECRET');
$body = file_get_contents('php://input');
const LOGIN = "<!doctype html><title>Chat</title><form method=post>Name <input name=name pattern='[A-Za-z0-9]+' required>";
const PAGE = <<<'HTML'
<!doctype html><meta charset=utf-8><title>Chat</title><ul id=list></ul><form id=talk><input id=text>
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
</script>
HTML;

function answer($value) { header('Content-Type: application/json'); echo json_encode($value); }
function login_cookie($name) { return $name . '.' . hash_hmac('sha256', $name, 'login ' . $GLOBALS['secret']); }

$name = strtok($_COOKIE['user'] ?? '', '.');
$user = $name && hash_equals(login_cookie($name), $_COOKIE['user']) ? $name : null;
$path = $_SERVER['REQUEST_METHOD'] . ' ' . parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
if ($path === 'GET /') {
    if ($user) echo PAGE; else header('Location: /login', true, 303);
} elseif ($path === 'GET /login') {
    echo LOGIN;
} elseif ($path === 'POST /login' && preg_match('/^[A-Za-z0-9]{1,32}$/D', $_POST['name'] ?? '')) {
    setcookie('user', login_cookie($_POST['name']), ['path' => '/', 'httponly' => true, 'samesite' => 'Lax']);
    header('Location: /', true, 303);
} elseif ($path === 'POST /say' && $user) { // the answer is broadcast, too
    header('Belfry-Publish: chat:lobby');
    answer(['text' => $_POST['text'] ?? '']);
} elseif ($path === 'POST /belfry') {
    [$id, $time] = [$_SERVER['HTTP_WEBHOOK_ID'] ?? '', $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? ''];
    $key = base64_decode(substr($secret, strlen('whsec_')));
    $expected = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$time.$body", $key, true));
    $signed = hash_equals($expected, $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? '') && abs(time() - (int)$time) < 300;
    $event = $signed ? json_decode($body, true) : ['event' => ''];
    if (!$signed) http_response_code(403);
    elseif ($event['event'] === 'connect' && !$user) http_response_code(401);
    elseif ($event['event'] === 'connect') answer(['user' => $user, 'rooms' => ['chat:lobby']]); // by the browser's own cookies
    elseif ($event['event'] === 'join' && $event['room'] === 'chat:staff' && $event['user'] !== 'admin')
        answer(['error' => ['code' => 403, 'message' => 'staff only']]);
    elseif ($event['event'] !== 'call') http_response_code(204);
    elseif ($event['method'] === 'whoami') answer(['data' => ['user' => $event['user']]]);
    else answer(['error' => ['code' => 404, 'message' => 'no such method']]);
} else http_response_code($path === 'POST /say' ? 401 : 404);
