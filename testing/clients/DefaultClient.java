import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;

/** Requests by the JDK's default client, which offers HTTP/2: `java DefaultClient.java URL RECORDING` prints one status and body per line. */
class DefaultClient {
  public static void main(String[] arguments) throws Exception {
    byte[] recording = Files.readAllBytes(Path.of(arguments[1]));
    var form = new ByteArrayOutputStream();
    form.write("--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.ogg\"\r\n\r\n".getBytes());
    form.write(recording);
    form.write("\r\n--B--\r\n".getBytes());
    byte[] bytes = form.toByteArray();
    String transcriptions = arguments[0] + "/v1/audio/transcriptions", multipart = "multipart/form-data; boundary=B";
    send(transcriptions, multipart, BodyPublishers.ofByteArray(bytes));
    send(transcriptions, multipart, BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(bytes)));
    send(arguments[0] + "/graph?steps=1", "audio/ogg", BodyPublishers.ofByteArray(recording));
    send(arguments[0] + "/v1/images/generations", "application/json", BodyPublishers.ofString("{\"prompt\": \"a cat\", \"steps\": 1}"));
  }

  static void send(String url, String type, BodyPublisher body) throws Exception {
    var request = HttpRequest.newBuilder(URI.create(url)).header("Content-Type", type).header("Accept", "application/json");
    var answer = HttpClient.newHttpClient().send(request.POST(body).build(), BodyHandlers.ofString());
    System.out.println(answer.statusCode() + " " + answer.body().replace("\n", " "));
  }
}
